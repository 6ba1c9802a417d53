"""Latency in depth: backends, and batch sizes with threads. Numbers and sentences; no Streamlit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from compression.catalogue.backends import INT8, title
from compression.runs.results import Latency, Timing
from compression.runs.statistics import Ratio
from dashboard.numbers import format as fmt
from dashboard.numbers.format import factor

# Above this share of the machine, others disturb what is timed.
_BUSY = 0.25
Table = list[dict[str, str]]


@dataclass(frozen=True)
class Rate:
    """Images a second in batches of so many. `latency` is of one call, that is of one batch."""

    batch: int
    latency: Latency

    @property
    def images_per_second(self) -> float:
        return 1000 * self.batch / self.latency.p50_ms


@dataclass(frozen=True)
class Line:
    """One model in one backend with so many threads, by batch size."""

    name: str
    threads: int
    rates: tuple[Rate, ...]

    @property
    def best(self) -> Rate:
        return max(self.rates, key=lambda rate: rate.images_per_second)


def table(timings: Sequence[Timing]) -> Table:
    """A row for each backend, as text: medians, tails, the ratio and what noise does to it."""
    return [_row(t) for t in timings]


def _row(t: Timing) -> dict[str, str]:
    tails = f"{fmt.number(t.compressed.p90_ms)} / {fmt.milliseconds(t.compressed.p99_ms)}"
    ready = fmt.DASH if t.ready_seconds is None else fmt.seconds(t.ready_seconds)
    return {
        "Runs in": title(t.backend),
        "Original": fmt.milliseconds(t.baseline.p50_ms),
        "Compressed": fmt.milliseconds(t.compressed.p50_ms),
        "Faster": f"{fmt.ratio(t.ratio.value)} ({fmt.ratio_interval(t.ratio)})",
        "Noise": fmt.ratio_interval(t.control),
        "Compressed, p90 / p99": tails,
        "Ready after": ready,
    }


def backends_notice(timings: Sequence[Timing]) -> str:
    """What runs it fastest, how much that gains, and how large the noise is."""
    if not timings:
        return "No backend could be timed."
    best = min(timings, key=lambda t: t.compressed.p50_ms)
    gains = max(timings, key=lambda t: t.ratio.value)
    said = (
        f"{title(best.backend)} runs the compressed model fastest, in "
        f"{fmt.milliseconds(best.compressed.p50_ms)} where the original takes "
        f"{fmt.milliseconds(best.baseline.p50_ms)}: {factor(best.ratio)}"
    )
    if gains is not best:
        said += f". {title(gains.backend)} gains most, {fmt.ratio(gains.ratio.value)}"
    noise = max(_off(t.control) for t in timings)
    return (
        f"{said}. The original against itself is off by up to {fmt.percent(noise)}: that is noise."
    )


def how(timings: Sequence[Timing]) -> str:
    """With which batches and threads these were timed."""
    batches = sorted({t.compressed.batch for t in timings})
    threads = sorted({t.compressed.threads for t in timings})
    images = "1 image" if batches == [1] else f"{' or '.join(map(str, batches))} images"
    return f"{images} a call, {fmt.threads(*threads)}"


def load(timings: Sequence[Timing]) -> str:
    """How much others had of the machine meanwhile, if that was looked at."""
    found = [t.busy for t in timings if t.busy is not None]
    if not found:
        return ""
    said = f"Others used up to {fmt.percent(max(found))} of the machine meanwhile"
    return f"{said}: better measure again when it is quiet." if max(found) > _BUSY else f"{said}."


def _off(control: Ratio) -> float:
    return max(abs(control.low - 1), abs(control.high - 1))


def lines(sweep: Sequence[Timing]) -> tuple[Line, ...]:
    """The original in each engine, then the compressed model in each backend, by threads."""
    found: dict[tuple[str, int], dict[int, Rate]] = defaultdict(dict)
    originals = dict.fromkeys(t.original_backend for t in sweep)
    for t in sweep:
        name = "Original" if len(originals) == 1 else f"Original, {title(t.original_backend)}"
        found[name, t.baseline.threads].setdefault(
            t.baseline.batch, Rate(t.baseline.batch, t.baseline)
        )
    for t in sweep:
        key = (_compressed(t, sweep), t.compressed.threads)
        found[key].setdefault(t.compressed.batch, Rate(t.compressed.batch, t.compressed))
    return tuple(
        Line(name, threads, tuple(rates[b] for b in sorted(rates)))
        for (name, threads), rates in found.items()
    )


def _compressed(t: Timing, sweep: Sequence[Timing]) -> str:
    backends = {other.backend for other in sweep}
    if len(backends) == 1 and t.backend != INT8:
        return "Compressed"
    if t.backend == INT8:
        return "Compressed, int8"
    return (
        f"Compressed, {title(t.backend)}" if len(backends - {INT8}) > 1 else "Compressed, float32"
    )


def sweep_notice(found: Sequence[Line]) -> str:
    """The most images a second of both models, and with which batch and threads."""
    if not found:
        return "No batch sizes were tried."
    before = [line for line in found if line.name.startswith("Original")]
    after = [line for line in found if line not in before]
    best, old = (max(g, key=lambda n: n.best.images_per_second) for g in (after, before))
    gain = best.best.images_per_second / old.best.images_per_second
    return (
        f"At its best the compressed model does {_most(best)}; the original does {_most(old)}. "
        f"That is {fmt.ratio(gain)} as many."
    )


def _most(line: Line) -> str:
    kind = " as int8" if line.name.endswith("int8") else ""
    rate = fmt.number(line.best.images_per_second)
    return f"{rate} images a second{kind} (batch {line.best.batch}, {fmt.threads(line.threads)})"
