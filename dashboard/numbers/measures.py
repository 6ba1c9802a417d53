"""The figures a chart or a table can show of a run: one line each, with unit and direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from compression.catalogue.backends import INT8
from compression.runs.results import Measurement, Run, Timing
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
        neutral: the original's value where the figure is against the original: a run whose
            interval holds it has no colour of its own.
        disturbed: whether the machine was busy with other programs when it was measured.
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
    neutral: float | None = None
    disturbed: Callable[[Run], bool] = lambda run: False

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


def timing_of(run: Run, backend: str) -> Timing | None:
    """How the run did in one backend, if it was timed there."""
    return next((t for t in run.timings if t.backend == backend), None)


def _change(run: Run) -> Pair:
    change = run.delta.top1 if run.delta else None
    return (0.0, change.value) if change else (None, None)


def _change_bounds(run: Run) -> Bounds | None:
    change = run.delta.top1 if run.delta else None
    return (change.low, change.high) if change else None


def _times(ratio: Callable[[Run], float | None]) -> Callable[[Run], Pair]:
    """A ratio of original to compressed: the original's own is 1."""

    def of(run: Run) -> Pair:
        value = ratio(run)
        return (None, None) if value is None else (1.0, value)

    return of


def _speedup(run: Run) -> Ratio | None:
    return run.delta.latency_ratio if run.delta else None


def _int8_speedup(run: Run) -> Ratio | None:
    timing = timing_of(run, INT8)
    return timing.ratio if timing else None


def _value(ratio: Ratio | None) -> float | None:
    return ratio.value if ratio else None


def _bounds(ratio: Ratio | None) -> Bounds | None:
    return (ratio.low, ratio.high) if ratio else None


def _busy(run: Run) -> bool:
    latency = run.compressed.latency if run.compressed else None
    return latency is not None and latency.on_busy_machine


def _int8_busy(run: Run) -> bool:
    timing = timing_of(run, INT8)
    return timing is not None and timing.compressed.on_busy_machine


def _lighter(run: Run) -> float | None:
    before, after = (m.macs if m else None for m in (run.baseline, run.compressed))
    return before / after if before and after else None


def _each(figure: Callable[[Measurement], float | None]) -> Callable[[Run], Pair]:
    """The same figure of both measurements of a run."""

    def of(run: Run) -> Pair:
        original, compressed = (figure(m) if m else None for m in (run.baseline, run.compressed))
        return original, compressed

    return of


# Figures of speed and accuracy are against the original that was measured in the same session, on
# the same images: milliseconds of different sessions or machines never share an axis.
MEASURES: dict[str, Measure] = {
    "change": Measure(
        "change",
        "Accuracy change",
        "points",
        100,
        "high",
        _change,
        fmt.points,
        "most accurate",
        "Change of validation accuracy from the original's on the same images, in percentage "
        "points.",
        _change_bounds,
        neutral=0.0,
    ),
    "smaller": Measure(
        "smaller",
        "File size",
        "times smaller",
        1,
        "high",
        _times(lambda run: run.delta.size_ratio if run.delta else None),
        fmt.times_smaller,
        "smallest",
        "Bytes of the original in float32 / bytes of the packed file, which loads back as exactly "
        "the same model.",
        spread=True,
        neutral=1.0,
    ),
    "speedup": Measure(
        "speedup",
        "Speed",
        "times faster",
        1,
        "high",
        _times(lambda run: _value(_speedup(run))),
        fmt.times_faster,
        "fastest",
        "Latency of the original / latency of the compressed model, their calls interleaved in one "
        "session.",
        lambda run: _bounds(_speedup(run)),
        spread=True,
        neutral=1.0,
        disturbed=_busy,
    ),
    "int8_speedup": Measure(
        "int8_speedup",
        "Speed as int8",
        "times faster",
        1,
        "high",
        _times(lambda run: _value(_int8_speedup(run))),
        fmt.times_faster,
        "fastest",
        "The same for the int8 graph: 8-bit weights and activations. The original runs in float32 "
        "in the same engine.",
        lambda run: _bounds(_int8_speedup(run)),
        spread=True,
        neutral=1.0,
        disturbed=_int8_busy,
    ),
    "lighter": Measure(
        "lighter",
        "Compute",
        "times fewer MACs",
        1,
        "high",
        _times(_lighter),
        fmt.ratio,
        "lightest",
        "Multiply-accumulate operations (MACs) of the original / of the compressed model. Zeros "
        "still count: they are multiplied too.",
        spread=True,
        neutral=1.0,
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
        "Share of the weights that are exactly zero; those of removed channels no longer count.",
        of_what="weights",
    ),
}
HORIZONTAL = ("smaller", "speedup", "int8_speedup", "lighter", "sparsity")
VERTICAL = ("change", "speedup", "int8_speedup", "smaller")
COLOURS = ("speedup", "int8_speedup", "smaller", "sparsity")
