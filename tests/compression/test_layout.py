"""Who may import whom, read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def imports(path: Path) -> Iterator[str]:
    """Dotted names a file imports anywhere in it, `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize(
    "statement",
    [
        "import compression",
        "from compression import Recipe, Prune, Quantize, Distill, Run, open_store, cards",
        "from compression.runs.store import open_store",
        "import compression.cli",
        "import compression.jobs.runner",
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
    assert set(compression.__all__) <= set(dir(compression))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = compression.nonsense
