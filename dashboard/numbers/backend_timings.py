"""Latency by backend, and throughput by batch size and threads, with what to notice in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from compression.catalogue.backends import INT8, title
from compression.runs.results import Latency, Timing
from compression.runs.statistics import Ratio
from dashboard.numbers import format as fmt

# Above this share of the machine, other processes disturb what is timed.
_BUSY = 0.25
Kind = Literal["original", "compressed", "int8"]
Table = list[dict[str, str]]


@dataclass(frozen=True)
class Rate:
    """Throughput at one batch size. `latency` is of one call, that is of one batch."""

    batch: int
    latency: Latency

    @property
    def images_per_second(self) -> float:
        """At the median latency."""
        return 1000 * self.batch / self.latency.p50_ms


@dataclass(frozen=True)
class Line:
    """Throughput of one model in one backend, by batch size. `kind` is int8 only if compressed."""

    kind: Kind
    name: str
    threads: int
    rates: tuple[Rate, ...]

    @property
    def best(self) -> Rate:
        """The batch size with the highest throughput."""
        return max(self.rates, key=lambda rate: rate.images_per_second)


def table(timings: Sequence[Timing]) -> Table:
    """A row of text for each backend: medians, tails, the ratio, and the noise on it."""
    return [_row(t) for t in timings]


def _row(t: Timing) -> dict[str, str]:
    tails = f"{fmt.number(t.compressed.p90_ms)} / {fmt.milliseconds(t.compressed.p99_ms)}"
    ready = fmt.DASH if t.ready_seconds is None else fmt.seconds(t.ready_seconds)
    return {
        "Backend": title(t.backend),
        "Original": fmt.milliseconds(t.baseline.p50_ms),
        "Compressed": fmt.milliseconds(t.compressed.p50_ms),
        "Faster": f"{fmt.ratio(t.ratio.value)} ({fmt.ratio_interval(t.ratio)})",
        "Noise": fmt.ratio_interval(t.control),
        "Compressed, p90 / p99": tails,
        "Ready after": ready,
    }


def backends_notice(timings: Sequence[Timing]) -> str:
    """The fastest backend, how much faster that is, and how large the noise is."""
    if not timings:
        return "No backend could be timed."
    best = min(timings, key=lambda t: t.compressed.p50_ms)
    gains = max(timings, key=lambda t: t.ratio.value)
    fastest = (
        f"{title(best.backend)} runs the compressed model fastest, in "
        f"{fmt.milliseconds(best.compressed.p50_ms)} where the original takes "
        f"{fmt.milliseconds(best.baseline.p50_ms)}: {fmt.factor(best.ratio)}"
    )
    if gains is not best:
        fastest += f". {title(gains.backend)} gains most, {fmt.ratio(gains.ratio.value)}"
    noise = max(_off(t.control) for t in timings)
    return (
        f"{fastest}. The original timed against itself is off by up to {fmt.percent(noise)}: that "
        "is the noise."
    )


def how(timings: Sequence[Timing]) -> str:
    """The batch sizes and threads of these timings."""
    batches = sorted({t.compressed.batch for t in timings})
    threads = sorted({t.compressed.threads for t in timings})
    images = "1 image" if batches == [1] else f"{' or '.join(map(str, batches))} images"
    return f"{images} a call, {fmt.threads(*threads)}"


def load(timings: Sequence[Timing]) -> str:
    """How much of the machine other processes used meanwhile; empty where that is not known."""
    shares = [t.busy for t in timings if t.busy is not None]
    if not shares:
        return ""
    used = f"Other processes used up to {fmt.percent(max(shares))} of the machine meanwhile"
    return f"{used}; measure again when the machine is idle." if max(shares) > _BUSY else f"{used}."


def _off(control: Ratio) -> float:
    return max(abs(control.low - 1), abs(control.high - 1))


def lines(sweep: Sequence[Timing]) -> tuple[Line, ...]:
    """The original in each engine, then the compressed model in each backend, by threads."""
    rates: dict[tuple[Kind, str, int], dict[int, Rate]] = defaultdict(dict)
    for t in sweep:
        by_batch = rates["original", _original_name(t, sweep), t.baseline.threads]
        by_batch.setdefault(t.baseline.batch, Rate(t.baseline.batch, t.baseline))
    for t in sweep:
        kind: Kind = "int8" if t.backend == INT8 else "compressed"
        by_batch = rates[kind, _compressed_name(t, sweep), t.compressed.threads]
        by_batch.setdefault(t.compressed.batch, Rate(t.compressed.batch, t.compressed))
    return tuple(
        Line(*key, tuple(by_batch[batch] for batch in sorted(by_batch)))
        for key, by_batch in rates.items()
    )


def _original_name(t: Timing, sweep: Sequence[Timing]) -> str:
    several = len({other.original_backend for other in sweep}) > 1
    return f"Original, {title(t.original_backend)}" if several else "Original"


def _compressed_name(t: Timing, sweep: Sequence[Timing]) -> str:
    backends = {other.backend for other in sweep}
    if t.backend == INT8:
        return "Compressed, int8"
    if len(backends) == 1:
        return "Compressed"
    several = len(backends - {INT8}) > 1
    return f"Compressed, {title(t.backend)}" if several else "Compressed, float32"


def sweep_notice(lines: Sequence[Line]) -> str:
    """The highest throughput of both models, and at which batch size and threads."""
    if not lines:
        return "No batch sizes were tried."
    before = [line for line in lines if line.kind == "original"]
    after = [line for line in lines if line.kind != "original"]
    best, old = (max(g, key=lambda n: n.best.images_per_second) for g in (after, before))
    gain = best.best.images_per_second / old.best.images_per_second
    return (
        f"At its best the compressed model does {_most(best)}; the original does {_most(old)}. "
        f"That is {fmt.ratio(gain)} as many."
    )


def _most(line: Line) -> str:
    dtype = " in int8" if line.kind == "int8" else ""
    rate = fmt.number(line.best.images_per_second)
    return f"{rate} images a second{dtype} (batch {line.best.batch}, {fmt.threads(line.threads)})"
