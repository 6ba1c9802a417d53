"""Runs as tables for a terminal: three significant digits, units, intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from compression.runs.format import (
    NONE,
    count,
    digits,
    faster,
    latency,
    percent,
    points,
    ratio,
    size,
)
from compression.runs.results import (
    Delta,
    Latency,
    Measurement,
    Run,
)
from compression.runs.store import StoredRun


def _milliseconds(value: float) -> str:
    return f"{digits(value)} ms"


def _latency(pick: Callable[[Latency], float]) -> Callable[[Measurement], str]:
    return lambda m: NONE if m.latency is None else _milliseconds(pick(m.latency))


_ROWS: dict[str, Callable[[Measurement], str]] = {
    "top-1 accuracy": lambda m: percent(m.top1),
    "file": lambda m: size(m.artifact_bytes),
    "  dense float32": lambda m: size(m.dense_bytes),
    "  gzip of state dict": lambda m: size(m.gzip_bytes),
    "  entropy bound": lambda m: size(m.entropy_bound_bytes),
    "  ONNX, float32": lambda m: NONE if m.onnx_bytes is None else size(m.onnx_bytes),
    "  ONNX, int8": lambda m: NONE if m.int8_bytes is None else size(m.int8_bytes),
    "bits per weight": lambda m: digits(m.bits_per_weight),
    "parameters": lambda m: count(m.parameters),
    "sparsity": lambda m: percent(m.sparsity),
    "multiply-accumulates": lambda m: NONE if m.macs is None else count(m.macs),
    "latency, median": _latency(lambda t: t.p50_ms),
    "latency, p90": _latency(lambda t: t.p90_ms),
    "latency, p99": _latency(lambda t: t.p99_ms),
}
_CHANGES: dict[str, Callable[[Delta, Latency | None], str]] = {
    "top-1 accuracy": lambda d, _: points(d.top1),
    "file": lambda d, _: ratio(d.size_ratio),
    "latency, median": lambda d, timed: faster(d.latency_ratio, timed),
}


def figures(run: Run) -> Table:
    """Original, compressed and change, side by side."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for title in ("original", "compressed", "change"):
        table.add_column(title, justify="right")
    for title, cell in _ROWS.items():
        change = _CHANGES.get(title)
        table.add_row(
            title,
            cell(run.baseline) if run.baseline else NONE,
            cell(run.compressed) if run.compressed else NONE,
            change(run.delta, _timed(run)) if change and run.delta else "",
        )
    if run.delta and run.delta.flips:
        flips = run.delta.flips
        table.add_row("right to wrong", "", str(flips.right_to_wrong), "images")
        table.add_row("wrong to right", "", str(flips.wrong_to_right), "images")
    if run.delta and run.delta.agreement is not None:
        table.add_row("same label as original", "", percent(run.delta.agreement), "")
    return table


def accounts(run: Run) -> Table:
    """Speed in every backend it was timed in: expected, measured, and why it is less."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("runs in", no_wrap=True)
    for title in ("original", "compressed", "expected", "measured"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("why less")
    for timing, analysis in zip(run.timings, run.accounts, strict=True):
        table.add_row(
            analysis.backend,
            _milliseconds(timing.baseline.p50_ms),
            _milliseconds(timing.compressed.p50_ms),
            ratio(analysis.expected),
            faster(analysis.measured, timing.compressed),
            " ".join(analysis.reasons),
        )
    return table


def conditions(run: Run) -> str:
    """Where and how the figures were measured, in one line."""
    environment = run.environment
    images = run.compressed.top1.n if run.compressed and run.compressed.top1 else None
    split = "validation" if environment.get("split") == "report" else environment.get("split", "")
    parts = [f"{images} {split} images" if images else ""]
    if timed := _timed(run):
        parts.append(f"latency: {latency(timed)}")
    parts.append(str(environment.get("device", "")))
    parts.append(f"{digits(run.seconds)} s" if run.seconds is not None else "")
    return " · ".join(p for p in parts if p)


def _timed(run: Run) -> Latency | None:
    return run.compressed.latency if run.compressed else None


def state(entry: StoredRun) -> str:
    """Where a run is in its life and how it is marked, in words."""
    marks = {
        "stopped early": entry.run.stopped_early,
        "pinned": entry.pinned,
        "hidden": entry.hidden,
    }
    return ", ".join([entry.run.state.value, *(mark for mark, on in marks.items() if on)])


def runs(entries: Iterable[StoredRun]) -> Table:
    """One line a run, oldest first."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("run", "name", "state", "model", "recipe"):
        table.add_column(title, no_wrap=title in ("run", "state", "model"))
    for title in ("top-1 (95 % interval)", "file", "smaller", "faster"):
        table.add_column(title, justify="right", no_wrap=True)
    for entry in entries:
        run, done, delta = entry.run, entry.run.compressed, entry.run.delta
        table.add_row(
            run.id,
            Text(entry.title),
            state(entry),
            run.model,
            run.recipe.sentence(),
            percent(done.top1) if done else NONE,
            size(done.artifact_bytes) if done else NONE,
            ratio(delta.size_ratio) if delta else NONE,
            faster(delta.latency_ratio.value, _timed(run))
            if delta and delta.latency_ratio
            else NONE,
        )
    return table
