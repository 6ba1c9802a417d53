"""Who may import whom, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Each room, and the rooms it may use. A new module is put in here or the test below fails.
_PLAIN = (
    "errors",
    "paths",
    "settings",
    "steps",
    "recipe",
    "run",
    "database",
    "entries",
    "wishes",
    "store",
    "catalogue",
    "idle",
    "costs",
    "presets",
    "examples",
    "sweep",
    "structures",
    "formats",
)
_BASE = (
    "layers",
    "activations",
    "allocation",
    "bisection",
    "models",
    "data",
    "entropy",
    "contexts",
    "adaptive",
    "planes",
    "streams",
    "packing",
    "inputs",
    "widths",
    "moments",
    "gradients",
    "compensate",
    "twin",
    "reconstruct",
    "runtime",
    "context",
)
_PARTS = ("prune", "quantize", "distill", "artifact", "measure", "deploy")
_WHOLE = (
    "prefixes",
    "notes",
    "comparison",
    "sensitivity",
    "accuracy_driven",
    "rate_aware",
    "opening",
    "ledger",
    "timing",
    "deployment",
    "latencies",
)
_STEPS = ("pruning", "quantizing", "distilling", "pipeline")
_FILES = ("evaluating", "exporting", "model_card", "runners")
_USERS = ("worker", "cluster", "jobs", "tables", "cli", "pretrain", *_FILES)
MAY_USE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_PLAIN, _PLAIN),
    **dict.fromkeys(_BASE, (*_PLAIN, *_BASE)),
    **{part: (*_PLAIN, *_BASE, part) for part in _PARTS},
    **dict.fromkeys(_WHOLE, (*_PLAIN, *_BASE, *_PARTS, *_WHOLE)),
    **dict.fromkeys(_STEPS, (*_PLAIN, *_BASE, *_PARTS, *_WHOLE, *_STEPS)),
    **dict.fromkeys(_USERS, (*_PLAIN, *_BASE, *_PARTS, *_WHOLE, *_STEPS, *_USERS)),
    "__init__": (*_PLAIN, "models", "pipeline", "artifact"),
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names a file imports anywhere in it, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    return path.relative_to(ROOT / path.relative_to(ROOT).parts[0]).parts[0].removesuffix(".py")


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", sources("compression"), ids=str)
def test_engine_module_uses_only_rooms_below(path: Path) -> None:
    used = {n.split(".")[1] for n in imports(path) if n.startswith("compression.")}
    assert used <= set(MAY_USE[room(path)])
    assert not packages(path) & {"dashboard", "streamlit", "plotly"}


@pytest.mark.parametrize("name", _PLAIN)
def test_plain_rooms_know_no_torch(name: str) -> None:
    for path in (p for p in sources("compression") if room(p) == name):
        assert not packages(path) & {"torch", "torchvision"}


@pytest.mark.parametrize("path", sources("dashboard"), ids=str)
def test_page_knows_no_torch_and_only_the_plain_rooms(path: Path) -> None:
    used = {n.split(".")[1] for n in imports(path) if n.startswith("compression.")}
    assert used <= set(_PLAIN)
    assert not packages(path) & {"torch", "torchvision"}


def test_charts_know_plotly_but_not_streamlit() -> None:
    known = packages(ROOT / "dashboard" / "charts.py")
    assert "plotly" in known
    assert "streamlit" not in known


def test_rooms_named_here_exist() -> None:
    assert set(MAY_USE) == {room(p) for p in sources("compression")}


@pytest.mark.parametrize(
    "statement",
    [
        "import compression",
        "from compression import Recipe, Prune, Quantize, Distill, Run, open_store, cards",
        "from compression.store import open_store",
        "import compression.cli",
        "import compression.jobs",
    ],
)
def test_no_torch_is_imported(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_public_names_are_all_there() -> None:
    import compression

    for name in compression.__all__:
        assert getattr(compression, name).__name__ == name
    assert set(compression.__all__) == set(compression._HOMES) <= set(dir(compression))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = compression.nonsense
