"""From raw results to the tables of the README. Numbers first, text second."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compression.runs.statistics import Interval
from tests.benchmarks.peers.cells import CELLS
from tests.benchmarks.peers.methods import CHANNELS, METHODS, ORIGINAL, QUANTIZATION, SPARSITY
from tests.benchmarks.peers.results import Key, Result, best, difference
from tests.readme import markdown_table

OURS = "ours"
Known = Mapping[Key, Result]
GROUPS: dict[str, tuple[str, ...]] = {
    "quantization": QUANTIZATION,
    "pruning": (*SPARSITY, "2:4"),
    "channels": CHANNELS,
}
# How ours stands against a peer in its cell.
AHEAD, LEVEL, BEHIND = "▲", "=", "▼"


@dataclass(frozen=True)
class Entry:
    """A method in a cell: its change of top-1 against the original, or why there is none."""

    result: Result | None
    change: Interval | None
    reason: str = ""


def entry(known: Known, method: str, model: str, cell: str, split: str) -> Entry:
    """The variant that is best on validation, on `split`."""
    variants = METHODS[method].variants.get(cell)
    if not variants:
        return Entry(None, None, METHODS[method].reasons.get(cell, "not tried"))
    validated = [known.get((method, model, cell, v, "validation")) for v in variants]
    tried = [r for r in validated if r]
    won = best(tried)
    variant = won.variant if won else variants[0]
    result = known.get((method, model, cell, variant, split))
    original = known.get((ORIGINAL, model, ORIGINAL, "", split))
    failed = next((r.reason for r in [result, *tried] if r and r.reason), "")
    if result is None or result.reason or original is None:
        title = METHODS[method].title
        return Entry(None, None, f"{title}: {failed}" if failed else f"{title}: not run yet")
    return Entry(result, difference(original, result))


def standing(ours: Result, peer: Result) -> str:
    """Whether ours is clearly ahead of a peer, level with it or clearly behind."""
    gap = difference(peer, ours)
    if gap.low > 0:
        return AHEAD
    return BEHIND if gap.high < 0 else LEVEL


def report(known: Known, models: Sequence[str], cells: Sequence[str], split: str) -> str:
    """All tables, with what is to be known of them."""
    notes: list[str] = []
    standings: Counter[str] = Counter()
    tables = []
    for group in GROUPS:
        wanted = [cell for cell in GROUPS[group] if cell in cells]
        columns = [m for m in METHODS if any(c in METHODS[m].variants for c in wanted)]
        rows = [
            _row(known, columns, model, cell, split, notes, standings, first=cell == wanted[0])
            for model in models
            for cell in wanted
        ]
        if rows and columns:
            header = ("model", group, *(METHODS[m].title for m in columns))
            tables.append(markdown_table(header, rows, right=len(columns)))
    total = sum(standings.values())
    score = (
        f"Against its peers ours is clearly ahead in {standings[AHEAD]} of {total} comparisons, "
        f"level in {standings[LEVEL]} and clearly behind in {standings[BEHIND]}."
    )
    reasons = "\n".join(f"{i}. {note}" for i, note in enumerate(notes, 1))
    parts = ([score] if total else []) + [*tables, reasons, _cost(known, split)]
    return "\n\n".join(part for part in parts if part)


def _row(
    known: Known,
    columns: Sequence[str],
    model: str,
    cell: str,
    split: str,
    notes: list[str],
    standings: Counter[str],
    first: bool,
) -> list[str]:
    found = {m: entry(known, m, model, cell, split) for m in columns}
    top = max((e.change.value for e in found.values() if e.change), default=0.0)
    ours = found[OURS].result if OURS in found else None
    texts = []
    for method, one in found.items():
        if one.change is None or one.result is None:
            texts.append(_why(one.reason, notes))
            continue
        text = points(one.change)
        text = f"**{text}**" if one.change.value == top else text
        if ours and method != OURS:
            mark = standing(ours, one.result)
            standings[mark] += 1
            text += f" {mark}"
        texts.append(text)
    return [model.split("/")[-1] if first else "", CELLS[cell].title, *texts]


def points(change: Interval) -> str:
    """A change of top-1 in points, with half the width of its interval."""
    return f"{100 * change.value:+.2f} ± {50 * (change.high - change.low):.2f}"


def _why(reason: str, notes: list[str]) -> str:
    if reason not in notes:
        notes.append(reason)
    return f"- <sup>{notes.index(reason) + 1}</sup>"


def _cost(known: Known, split: str) -> str:
    """Median seconds and memory of each method, over all of its models and cells."""
    rows = []
    for method, about in METHODS.items():
        if method == ORIGINAL:
            continue
        texts = []
        for cells in GROUPS.values():
            # A recipe of ours that is no longer in use has a variant of its own.
            done = [
                r
                for r in known.values()
                if r.method == method
                and r.split == split
                and r.cell in cells
                and not r.reason
                and r.variant in about.variants.get(r.cell, ())
            ]
            seconds = statistics.median([r.seconds for r in done]) if done else 0.0
            peak = statistics.median([r.peak_mib for r in done]) if done else 0.0
            texts.append(f"{seconds:.3g} s, {peak:.0f} MiB" if done else "-")
        rows.append([about.title, *texts])
    return markdown_table(("median of one run", *GROUPS), rows, right=len(GROUPS))
