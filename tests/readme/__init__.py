"""The READMEs: where each is, and the sections in them that programs write.

`python -m tests.readme` writes the tables of `tests.readme.tables`; each benchmark writes its own
with `--write`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
ENGINE = ROOT / "compression" / "README.md"
RECIPE = ROOT / "compression" / "recipe" / "README.md"
EXPORT = ROOT / "compression" / "export" / "README.md"
METHODS = ROOT / "compression" / "methods" / "README.md"
DASHBOARD = ROOT / "dashboard" / "README.md"
BENCHMARKS = ROOT / "tests" / "benchmarks" / "README.md"
READMES = (README, ENGINE, RECIPE, EXPORT, METHODS, DASHBOARD, BENCHMARKS)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: int = 0) -> str:
    """A Markdown table whose last `right` columns are right-aligned."""
    rule = [":--"] * (len(header) - right) + ["--:"] * right
    lines = ([cell.replace("|", "\\|") for cell in cells] for cells in (header, rule, *rows))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def section(name: str, path: Path) -> str:
    """What stands between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: the markers are not there.
    """
    return _split(name, path)[1]


def replace_section(name: str, body: str, path: Path = README) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: the markers are not there.
    """
    before, _, after = _split(name, path)
    path.write_text(f"{before}{body}{after}", encoding="utf-8")


def _split(name: str, path: Path) -> tuple[str, str, str]:
    text = path.read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    if start not in text or end not in text:
        raise ValueError(f"{path} has no section {start.strip()} ... {end.strip()}")
    before, rest = text.split(start, 1)
    body, after = rest.split(end, 1)
    return before + start, body, end + after
