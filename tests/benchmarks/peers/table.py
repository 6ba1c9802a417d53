"""From raw results to the tables of the README. Numbers first, text second."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from compression.runs.statistics import Interval
from tests.benchmarks.peers.cells import CELLS
from tests.benchmarks.peers.methods import CHANNELS, METHODS, ORIGINAL, QUANTIZATION, SPARSITY
from tests.benchmarks.peers.results import Key, Result, best, difference, points
from tests.benchmarks.peers.sizes import size_table
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
    against_best: Counter[str] = Counter()
    tables = []
    for group in GROUPS:
        wanted = [cell for cell in GROUPS[group] if cell in cells]
        columns = [m for m in METHODS if _was_run(known, m, wanted, split)]
        rows = []
        for model in models:
            for cell in wanted:
                entries = {m: entry(known, m, model, cell, split) for m in columns}
                marks = {m: mark for m in columns if (mark := _mark(entries, m))}
                standings.update(marks.values())
                if marks:
                    against_best[marks[_best_peer(entries, marks)]] += 1
                first = model.split("/")[-1] if cell == wanted[0] else ""
                rows.append([first, CELLS[cell].title, *_texts(entries, marks, notes)])
        if rows and columns:
            header = ("model", group, *(METHODS[m].title for m in columns))
            tables.append(markdown_table(header, rows, right=len(columns)))
    score = [_score(standings, against_best)] if standings else []
    reasons = "\n".join(f"{i}. {note}" for i, note in enumerate(notes, 1))
    sizes = size_table(known, models, cells, split)
    parts = [*score, *tables, reasons, sizes, _cost(known, split)]
    return "\n\n".join(part for part in parts if part)


def _was_run(known: Known, method: str, cells: Sequence[str], split: str) -> bool:
    """Whether a method that can do any of the cells was run in one: a column of its own."""
    able = {cell for cell in cells if cell in METHODS[method].variants}
    return any(r.method == method and r.cell in able and r.split == split for r in known.values())


def _score(standings: Counter[str], against_best: Counter[str]) -> str:
    total, rows = sum(standings.values()), sum(against_best.values())
    return (
        f"Against its peers ours is clearly ahead in {standings[AHEAD]} of {total} comparisons, "
        f"level in {standings[LEVEL]} and clearly behind in {standings[BEHIND]}. Against the peer "
        f"that is best in a row on these very images it is clearly ahead in {against_best[AHEAD]} "
        f"of {rows} rows, level in {against_best[LEVEL]} and clearly behind in "
        f"{against_best[BEHIND]}."
    )


def _mark(entries: Mapping[str, Entry], method: str) -> str:
    """How ours stands against a peer; empty where one of the two has no result."""
    ours, peer = entries[OURS].result if OURS in entries else None, entries[method].result
    return standing(ours, peer) if ours and peer and method != OURS else ""


def _best_peer(entries: Mapping[str, Entry], peers: Iterable[str]) -> str:
    """The peer with the highest top-1."""
    changes = {m: e.change.value for m, e in entries.items() if e.change}
    return max(peers, key=lambda m: changes[m])


def _texts(
    entries: Mapping[str, Entry], marks: Mapping[str, str], notes: list[str]
) -> Iterator[str]:
    top = max((e.change.value for e in entries.values() if e.change), default=0.0)
    for method, one in entries.items():
        if one.change is None:
            yield _why(one.reason, notes)
            continue
        text = points(one.change)
        text = f"**{text}**" if one.change.value == top else text
        yield f"{text} {marks[method]}" if method in marks else text


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
            seconds = statistics.median([r.cost_seconds for r in done]) if done else 0.0
            peak = statistics.median([r.peak_mib for r in done]) if done else 0.0
            texts.append(f"{seconds:.3g} s, {peak:.0f} MiB" if done else "-")
        if set(texts) != {"-"}:
            rows.append([about.title, *texts])
    return markdown_table(("median of one run", *GROUPS), rows, right=len(GROUPS))
