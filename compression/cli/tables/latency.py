"""A latency report as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from compression.runs.format import (
    NONE,
    count,
    digits,
    faster,
    milliseconds,
    percent,
    ratio,
    size,
    threads,
)
from compression.runs.results import (
    Latency,
    LatencyReport,
    LayerTime,
    Roof,
    Timing,
)


def of(report: LatencyReport) -> dict[str, Table]:
    """Titled tables: backends, batches and threads, layers, and what the machine can do."""
    tables = {}
    if report.timings:
        first = report.timings[0].compressed
        tables[f"Backends, {_call(first)}"] = _backends(report.timings)
    if report.sweep:
        tables["Batch sizes and threads"] = _sweep(report.sweep)
    if report.layers:
        tables[f"Layers in {report.layers_backend}, {threads(1)}"] = _layers(report.layers)
    if report.roofs:
        tables["Peak rates measured on this machine"] = _roofs(report.roofs)
    return tables


def sentences(report: LatencyReport) -> list[str]:
    """Why a speed-up is less than expected, what else there is to know, and where it was."""
    lines = [
        f"{a.backend}: {ratio(a.measured)} measured, {ratio(a.expected)} expected. "
        + " ".join(a.reasons)
        for a in report.accounts
        if a.reasons
    ]
    about = report.environment
    where = [str(about[key]) for key in ("device", "created") if about.get(key)]
    return [*lines, *report.notes, *([f"Measured on {', '.join(where)}."] if where else [])]


def _call(timed: Latency) -> str:
    return f"batch {timed.batch}, {threads(timed.threads)}"


def _table(texts: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for title in texts:
        table.add_column(title, no_wrap=True)
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _backends(timings: Sequence[Timing]) -> Table:
    titles = ("original", "compressed", "p90 / p99", "faster", "control", "ready after", "others")
    table = _table(("backend", "original in"), titles)
    for t in timings:
        tails = f"{digits(t.compressed.p90_ms)} / {milliseconds(t.compressed.p99_ms)}"
        ready = NONE if t.ready_seconds is None else f"{digits(t.ready_seconds)} s"
        table.add_row(
            t.backend,
            t.original_backend,
            milliseconds(t.baseline.p50_ms),
            milliseconds(t.compressed.p50_ms),
            tails,
            faster(t.ratio, t.compressed),
            ratio(t.control),
            ready,
            percent(t.busy),
        )
    return table


def _sweep(timings: Sequence[Timing]) -> Table:
    table = _table(
        ("backend",), ("batch", "threads", "original", "compressed", "faster", "images a second")
    )
    for t in timings:
        compressed = t.compressed
        table.add_row(
            t.backend,
            str(compressed.batch),
            str(compressed.threads),
            milliseconds(t.baseline.p50_ms),
            milliseconds(compressed.p50_ms),
            faster(t.ratio, compressed),
            digits(1e3 * compressed.batch / compressed.p50_ms),
        )
    return table


def _layers(layers: Sequence[LayerTime]) -> Table:
    titles = ("original", "compressed", "MACs", "MACs left", "bytes", "bytes left")
    table = _table(("layer", "kind"), titles)
    for layer in layers:
        macs = (layer.original_macs, layer.compressed_macs)
        moved = (layer.original_bytes, layer.compressed_bytes)
        table.add_row(
            layer.name,
            layer.kind,
            milliseconds(layer.original_ms),
            milliseconds(layer.compressed_ms),
            *(NONE if n is None else count(n) for n in macs),
            *(NONE if n is None else size(n) for n in moved),
        )
    return table


def _roofs(roofs: Sequence[Roof]) -> Table:
    table = _table(("dtype",), ("threads", "MACs a second", "bytes a second"))
    for roof in roofs:
        rates = count(roof.macs_per_second), size(roof.bytes_per_second)
        table.add_row(roof.numbers, str(roof.threads), *rates)
    return table
