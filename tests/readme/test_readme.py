"""The READMEs say what is true: tables are generated, links, files and functions are there."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from compression.catalogue.file_formats import FORMATS
from compression.recipe.fields import settings
from compression.recipe.steps import STEPS
from tests.compression.order import ORDER
from tests.readme import (
    DASHBOARD,
    ENGINE,
    EXPORT,
    METHODS,
    README,
    READMES,
    ROOT,
    replace_section,
    section,
)
from tests.readme.documents import (
    blocks,
    flags,
    inline_code,
    inline_commands,
    prose,
    resolve,
    shown_files,
    shown_functions,
)
from tests.readme.programs import check, cli_flags, dashboard_flags, help_of
from tests.readme.tables import TABLES

MOST_LINES, MOST_LINES_OF_OTHERS = 200, 250


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_readme = pytest.mark.parametrize("path", READMES, ids=name_of)


def test_every_readme_is_known() -> None:
    places = ("compression", "dashboard", "tests", "assets")
    there = {p for place in places for p in (ROOT / place).rglob("README.md")} | {README}
    assert there == set(READMES)


def test_the_first_readme_takes_five_minutes() -> None:
    assert len(README.read_text().splitlines()) <= MOST_LINES


@every_readme
def test_a_readme_is_short_but_for_its_tables(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("|")]
    assert len(lines) <= MOST_LINES_OF_OTHERS


@pytest.mark.parametrize("name", TABLES)
def test_generated_tables_are_up_to_date(name: str) -> None:
    path, table = TABLES[name]
    assert section(name, path) == table(), "run `python -m tests.readme`"


def test_the_folders_are_in_the_order_in_which_they_may_import_each_other() -> None:
    for name, path, package in (
        ("rooms", ENGINE, "compression/"),
        ("dashboard-rooms", DASHBOARD, "dashboard/"),
    ):
        listed = re.findall(r"^\| `([\w/]+)` \|", section(name, path), re.MULTILINE)
        places = (room.removeprefix(package) for room in ORDER if room.startswith(package))
        assert listed == [p for p in places if _exists(ROOT / package / p)]


def _exists(place: Path) -> bool:
    return place.is_dir() or place.with_suffix(".py").exists()


@every_readme
def test_pictures_and_linked_files_are_there(path: Path) -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", prose(path)):
        assert (path.parent / target).exists(), target


@every_readme
def test_files_and_functions_named_are_there(path: Path) -> None:
    for file in shown_files(path):
        assert file.exists() or file.name in ("model.onnx", "recipe.json"), file
    for file, name in shown_functions(path):
        assert name in definitions(file), f"{file} has no {name}"


def definitions(file: Path) -> set[str]:
    """Functions, classes, methods and constants of a file, methods as `Class.method`."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            parts: list[Any] = [n for n in node.body if isinstance(n, ast.FunctionDef)]
            names |= {f"{node.name}.{part.name}" for part in parts}
        if isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


@pytest.mark.parametrize("number", range(3))
def test_what_is_named_on_a_way_through_the_code_is_connected(number: int) -> None:
    """Each function is mentioned in a file named before it, or mentions one named before it."""
    text = ENGINE.read_text().split("## Three ways through the code", 1)[1].split("\n## ", 1)[0]
    way = re.split(r"^\*\*.+\*\*$", text, flags=re.MULTILINE)[1:][number]
    assert len(re.findall(r"^\d+\. ", way, re.MULTILINE)) <= 10
    named = re.findall(r"`([\w/]+\.py):([\w.]+)`", way)
    assert len(named) >= 6
    sources = [resolve(ENGINE, file).read_text() for file, _ in named]
    for at in range(1, len(named)):
        before = [name for _, name in named[:at]]
        here, others = mentions(sources[at], *before), "".join(sources[:at])
        assert here or mentions(others, named[at][1]), named[at]


def mentions(source: str, *names: str) -> bool:
    return any(re.search(rf"\b{name.rpartition('.')[2]}\b", source) for name in names)


def test_every_place_named_for_additions_exists_with_its_registry() -> None:
    table = ENGINE.read_text().split("| to add | touch |", 1)[1].split("\n\n", 1)[0]
    places = re.findall(r"`((?:compression|tests)/[\w/]+)\.py`[^`]*`([A-Z_]+)`", table)
    assert len(places) >= 6
    for path, registry in places:
        assert isinstance(getattr(import_module(path.replace("/", ".")), registry), dict)
    for line in table.splitlines()[2:]:
        files = re.findall(r"`([\w/]+\.py)`", line)
        assert files, line
        for file in files:
            assert (ROOT / file).exists() or (ENGINE.parent / file).exists(), file


@pytest.mark.parametrize(
    ("step", "setting"),
    [
        ("prune", "score"),
        ("prune", "pattern"),
        ("prune", "scope"),
        ("quantize", "scheme"),
        ("quantize", "rounding"),
        ("quantize", "clipping"),
        ("quantize", "activation_clipping"),
        ("quantize", "sensitivity"),
        ("distill", "loss"),
    ],
)
def test_every_method_is_described(step: str, setting: str) -> None:
    choices = next(s.choices for s in settings(STEPS[step]) if s.name == setting)
    assert set(choices) - set(inline_code(METHODS)) == set()


@every_readme
def test_commands_in_the_text_have_the_flags_they_are_given(path: Path) -> None:
    for words in inline_commands(path):
        check(words)


@every_readme
def test_flags_in_the_text_exist(path: Path) -> None:
    known = dashboard_flags().union(*cli_flags().values())
    programs = {code.split()[2] for code in inline_code(path) if code.startswith("python -m ")}
    for flag in flags(path) - known:
        assert any(flag in help_of(name) for name in programs - {"tests.readme"}), flag


@pytest.mark.parametrize("path", [README, EXPORT], ids=name_of)
def test_every_file_format_is_described(path: Path) -> None:
    table = path.read_text().split("| format | what it is | needs |", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == list(FORMATS)


def test_every_environment_variable_is_described() -> None:
    variable = re.compile(r"\bCOMPRESSION_[A-Z_]+\b")
    files = (p for folder in ("compression", "dashboard") for p in (ROOT / folder).rglob("*.py"))
    used = {name for file in files for name in variable.findall(file.read_text())}
    assert used == set(variable.findall(DASHBOARD.read_text()))


@every_readme
def test_no_code_hides_in_indentation(path: Path) -> None:
    assert not re.search(r"\n\n {4}\S", prose(path))
    assert {block.language for block in blocks(path)} <= {"sh", "python", "json"}


def test_a_missing_section_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("no markers")
    with pytest.raises(ValueError, match="no section"):
        replace_section("models", "x", path)
    assert path.read_text() == "no markers"
