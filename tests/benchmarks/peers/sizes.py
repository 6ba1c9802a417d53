"""File sizes at equal accuracy: the smallest file of a peer that is as accurate as ours.

A peer's files are a sweep over how coarsely it quantizes. Against each of our files stands the
smallest of them with at least as many validation images right; both are reported on the test split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tests.benchmarks.peers.cells import CELLS, FILES, SWEEP
from tests.benchmarks.peers.methods import METHODS, ORIGINAL
from tests.benchmarks.peers.results import Key, Result, difference, points
from tests.readme import markdown_table

Known = Mapping[Key, Result]
OURS, PEER = "ours", "nncodec"


def matched(ours: Result, sweep: Iterable[Result]) -> Result | None:
    """The smallest file with at least as many images right as ours, None if there is none.

    Args:
        ours: our file on the validation images.
        sweep: the peer's files on the same images.
    """
    needed = int(ours.bits.sum())
    enough = [r for r in sweep if not r.reason and int(r.bits.sum()) >= needed]
    return min(enough, key=lambda r: r.facts["bytes"], default=None)


def chosen(known: Known, model: str, cell: str) -> tuple[Result | None, Result | None]:
    """Our file and the peer's that stands against it, both on the validation images."""
    variant = METHODS[OURS].variants[cell][0]
    ours = known.get((OURS, model, cell, variant, "validation"))
    if ours is None or ours.reason:
        return None, None
    keys = ((PEER, model, SWEEP, v, "validation") for v in METHODS[PEER].variants[SWEEP])
    return ours, matched(ours, (known[key] for key in keys if key in known))


def size_table(known: Known, models: Sequence[str], cells: Sequence[str], split: str) -> str:
    """A row for each of our files that has been made; empty if there is none."""
    rows = [
        row
        for model in models
        for cell in FILES
        if cell in cells and (row := _row(known, model, cell, split))
    ]
    header = ("model", "our file", "ours, kB", "change", "NNCodec, kB", "change", "ours / NNCodec")
    return markdown_table(header, rows, right=5) if rows else ""


def _row(known: Known, model: str, cell: str, split: str) -> list[str]:
    files = chosen(known, model, cell)
    ours, peer = (
        known.get((r.method, model, r.cell, r.variant, split)) if r else None for r in files
    )
    original = known.get((ORIGINAL, model, ORIGINAL, "", split))
    swept = any(r.method == PEER and r.model == model for r in known.values())
    if original is None or ours is None or ours.reason or not swept:
        return []
    start = [model.split("/")[-1], CELLS[cell].title, *_texts(original, ours)]
    if files[1] is None:
        return [*start, "none", "as accurate", "-"]
    if peer is None or peer.reason:
        return []
    ratio = ours.facts["bytes"] / peer.facts["bytes"]
    return [*start, *_texts(original, peer), f"{ratio:.2f}"]


def _texts(original: Result, result: Result) -> tuple[str, str]:
    return f"{result.facts['bytes'] / 1000:.1f}", points(difference(original, result))
