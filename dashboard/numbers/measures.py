"""The figures a chart or a table can show of a run: one line each, with unit and direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from compression.catalogue.backends import INT8
from compression.runs.results import Latency, Measurement, Run, Timing
from compression.runs.statistics import Ratio
from dashboard.numbers import format as fmt

Bounds = tuple[float, float]
Pair = tuple[float | None, float | None]


@dataclass(frozen=True)
class Measure:
    """One figure of a run.

    Args:
        unit: of an axis; `of_what` follows it where the unit is a share.
        scale: turns the base unit (fraction, bytes, milliseconds, count) into the axis's.
        of: the original's and the compressed model's value in the base unit; None where it could
            not be measured.
        show: the value with its unit, as text.
        superlative: what the best run is, as in "the smallest".
        bounds: the 95 % interval of the compressed model's value, in the base unit.
        spread: whether runs may be so far apart that the axis has to be logarithmic.
    """

    name: str
    title: str
    unit: str
    scale: float
    better: Literal["low", "high"]
    of: Callable[[Run], Pair]
    show: Callable[[float], str]
    superlative: str
    help: str
    bounds: Callable[[Run], Bounds | None] = lambda run: None
    spread: bool = False
    of_what: str = ""

    @property
    def unit_in_full(self) -> str:
        """The unit of an axis, with what it is a share of."""
        return f"{self.unit} of {self.of_what}" if self.of_what else self.unit

    @property
    def label(self) -> str:
        """Title and unit, for an axis."""
        return f"{self.title} ({self.unit_in_full})"

    def betters(self, one: float, other: float) -> bool:
        """Whether `one` is strictly better than `other`."""
        return one < other if self.better == "low" else one > other


def _accuracy_bounds(run: Run) -> Bounds | None:
    top1 = run.compressed.top1 if run.compressed else None
    return (top1.low, top1.high) if top1 else None


def _latency_bounds(run: Run) -> Bounds | None:
    """From the interval of the ratio to the original, whose calls were interleaved."""
    ratio = run.delta.latency_ratio if run.delta else None
    original = run.baseline.latency if run.baseline else None
    return _from_ratio(original, ratio)


def _int8_bounds(run: Run) -> Bounds | None:
    timing = timing_of(run, INT8)
    return _from_ratio(timing.baseline, timing.ratio) if timing else None


def _from_ratio(original: Latency | None, ratio: Ratio | None) -> Bounds | None:
    if ratio is None or original is None or ratio.low <= 0:
        return None
    return original.p50_ms / ratio.high, original.p50_ms / ratio.low


def _each(figure: Callable[[Measurement], float | None]) -> Callable[[Run], Pair]:
    """The same figure of both measurements of a run."""

    def of(run: Run) -> Pair:
        original, compressed = (figure(m) if m else None for m in (run.baseline, run.compressed))
        return original, compressed

    return of


def timing_of(run: Run, backend: str) -> Timing | None:
    """How the run did in one backend, if it was timed there."""
    return next((t for t in run.timings if t.backend == backend), None)


def _accuracy(m: Measurement) -> float | None:
    return m.top1.value if m.top1 else None


def _latency(m: Measurement) -> float | None:
    return m.latency.p50_ms if m.latency else None


def _int8(run: Run) -> Pair:
    timing = timing_of(run, INT8)
    return (timing.baseline.p50_ms, timing.compressed.p50_ms) if timing else (None, None)


MEASURES: dict[str, Measure] = {
    "accuracy": Measure(
        "accuracy",
        "Accuracy",
        "%",
        100,
        "high",
        _each(_accuracy),
        fmt.percent,
        "most accurate",
        "Share of the validation images that get the right label.",
        _accuracy_bounds,
        of_what="validation images",
    ),
    "size": Measure(
        "size",
        "File size",
        "MB",
        1e-6,
        "low",
        _each(lambda m: m.artifact_bytes),
        fmt.size,
        "smallest",
        "Bytes of the packed file, which loads back as exactly the same model.",
        spread=True,
    ),
    "latency": Measure(
        "latency",
        "Latency",
        "ms per image",
        1,
        "low",
        _each(_latency),
        fmt.milliseconds,
        "fastest",
        "Median time of one forward pass, as it was actually run.",
        _latency_bounds,
    ),
    "int8": Measure(
        "int8",
        "Latency, int8",
        "ms per image",
        1,
        "low",
        _int8,
        fmt.milliseconds,
        "fastest",
        "Median time of one forward pass as an int8 graph: 8-bit weights and activations. The "
        "original runs in float32 in the same engine.",
        _int8_bounds,
    ),
    "macs": Measure(
        "macs",
        "Multiply-accumulates",
        "million MACs",
        1e-6,
        "low",
        _each(lambda m: m.macs),
        fmt.count,
        "lightest",
        "Multiply-accumulate operations (MACs) per image. Zeros still count: they are multiplied "
        "too.",
    ),
    "sparsity": Measure(
        "sparsity",
        "Sparsity",
        "%",
        100,
        "high",
        _each(lambda m: m.sparsity),
        fmt.percent,
        "sparsest",
        "Share of the weights that are exactly zero.",
        of_what="weights",
    ),
}
HORIZONTAL = ("size", "latency", "int8", "macs", "sparsity")
VERTICAL = ("accuracy", "latency", "int8", "size")
COLOURS = ("latency", "size", "int8", "sparsity", "accuracy")
