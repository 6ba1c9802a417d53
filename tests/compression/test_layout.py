"""The house: a folder imports only folders before it, nothing goes in a circle, rooms stay small.

The order is written once, in `order.py`, and the READMEs of both packages are made from it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.compression.order import ORDER

ROOT = Path(__file__).resolve().parents[2]

# Rooms beside each other, which never import one another.
APART = ("compression/methods/prune", "compression/methods/quantize", "compression/methods/distill")
NO_TORCH = ("compression/recipe", "compression/runs", "compression/catalogue", "dashboard")
# What makes a folder a package is no concept of ours.
PACKAGING = {"__init__.py", "__init__.pyi", "__pycache__", "py.typed", "README.md"}
MOST_ENTRIES, MOST_FILES = 15, 14


def sources(*packages: str) -> list[Path]:
    found = (p for package in packages for p in sorted((ROOT / package).rglob("*.py")))
    return [p.relative_to(ROOT) for p in found]


FILES = sources("compression", "dashboard")
MODULES = {".".join(p.with_suffix("").parts).removesuffix(".__init__"): p for p in FILES}


def imports(path: Path, *, lazy: bool = True) -> Iterator[str]:
    """Dotted names a file imports, `from a import b` as `a.b`; without `lazy`, only those that
    importing it brings along."""
    tree = ast.parse((ROOT / path).read_text())
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def files_used(path: Path) -> set[Path]:
    """The files of ours that a file imports."""
    named = (n for name in imports(path) for n in (name, name.rpartition(".")[0]))
    return {MODULES[n] for n in named if n in MODULES} - {Path("compression/__init__.py")}


def room(path: Path) -> str:
    """The most particular room of `ORDER` that a file is in."""
    parts = path.with_suffix("").parts
    above = ("/".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next(place for place in above if place in ORDER)


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_folder_imports_only_folders_before_it(path: Path) -> None:
    here = ORDER.index(room(path))
    used = {room(p) for p in files_used(path)} - {room(path)}
    assert not {r for r in used if ORDER.index(r) > here}
    if room(path) in APART:
        assert not used & set(APART)


@pytest.mark.slow
def test_no_file_imports_itself_by_way_of_others() -> None:
    TopologicalSorter({path: files_used(path) - {path} for path in FILES}).prepare()


def test_rooms_named_here_exist() -> None:
    assert set(ORDER) == {room(p) for p in FILES}


def test_rooms_are_small() -> None:
    entries = {p.name for p in (ROOT / "compression").iterdir()} - PACKAGING
    assert len(entries) <= MOST_ENTRIES
    folders = {p.parent for p in FILES}
    for folder in folders:
        assert len([p for p in FILES if p.parent == folder]) <= MOST_FILES, folder


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in FILES if room(p).startswith("compression")], ids=str)
def test_the_engine_knows_no_page(path: Path) -> None:
    assert not packages(path) & {"dashboard", "streamlit", "plotly"}


@pytest.mark.slow
@pytest.mark.parametrize("path", sources(*NO_TORCH), ids=str)
def test_what_a_page_shows_at_once_knows_no_torch(path: Path) -> None:
    assert not packages(path) & {"torch", "torchvision"}
    used = {room(p) for p in files_used(path) if p.parts[0] == "compression"}
    plain = ("compression/errors", "compression/paths", *NO_TORCH)
    assert used <= set(plain)


@pytest.mark.parametrize("path", sources("dashboard"), ids=str)
def test_only_views_know_streamlit_and_only_figures_know_plotly(path: Path) -> None:
    state = [f"dashboard/state/{room}.py" for room in ("stored", "address", "session", "actions")]
    streamlit = (*state, "dashboard/server", "dashboard/views")
    if "streamlit" in packages(path) and path != Path("dashboard/app.py"):
        assert str(path).startswith(streamlit)
    if "plotly" in packages(path) and path != Path("dashboard/server/preload.py"):
        assert str(path).startswith("dashboard/figures")


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "import compression",
        "from compression import Recipe, Prune, Quantize, Distill, Run, open_store, cards",
        "from compression.runs.store import open_store",
        "import compression.cli.main",
        "import compression.jobs.runner",
    ],
)
def test_no_torch_is_imported(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_public_names_are_all_there() -> None:
    import compression

    assert len(compression.__all__) > 15
    for name in compression.__all__:
        assert getattr(compression, name).__name__ == name
    assert set(compression.__all__) <= set(dir(compression))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = compression.nonsense
