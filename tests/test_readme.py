"""The README says what is true: its tables are generated, and the places it names exist."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.readme import README, TABLES, replace_section

TEXT = README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_generated_tables_are_up_to_date(name: str) -> None:
    section = TEXT.split(f"<!-- {name} -->\n", 1)[1].split(f"\n<!-- /{name} -->", 1)[0]
    assert section == TABLES[name](), "run `python -m tests.readme`"


def test_every_place_named_for_additions_exists_with_its_registry() -> None:
    table = TEXT.split("| to add | touch |", 1)[1].split("\n\n", 1)[0]
    places = re.findall(r"`(compression/[\w/]+)\.py`[^`]*`([A-Z]+)`", table)
    assert len(places) >= 6
    for path, registry in places:
        assert isinstance(getattr(import_module(path.replace("/", ".")), registry), dict)


def test_pictures_and_linked_files_are_there() -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", TEXT):
        assert (README.parent / target).exists(), target


def test_a_missing_section_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("no markers")
    with pytest.raises(ValueError, match="no section"):
        replace_section("models", "x", path)
    assert path.read_text() == "no markers"
