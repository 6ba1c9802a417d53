"""The figures a chart or a table can show of a run: one line each, with unit and direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from compression.run import Measurement, Run
from dashboard import format as fmt

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """One figure: `of` gives it in its base unit, None where it could not be measured.

    `bounds` gives its 95 % interval in the same unit. `scale` turns it into the axis unit.
    """

    name: str
    title: str
    unit: str
    scale: float
    better: Literal["low", "high"]
    of: Callable[[Measurement], float | None]
    show: Callable[[float], str]
    superlative: str
    help: str
    bounds: Callable[[Run], Bounds | None] = lambda run: None
    spread: bool = False

    @property
    def label(self) -> str:
        """Title and unit, for an axis."""
        return f"{self.title} ({self.unit})"

    def betters(self, one: float, other: float) -> bool:
        """Whether `one` is strictly better than `other`."""
        return one < other if self.better == "low" else one > other


def _accuracy_bounds(run: Run) -> Bounds | None:
    top1 = run.compressed.top1 if run.compressed else None
    return (top1.low, top1.high) if top1 else None


def _latency_bounds(run: Run) -> Bounds | None:
    """From the interval of the ratio to the original, which is what was measured in turns."""
    ratio = run.delta.latency_ratio if run.delta else None
    original = run.baseline.latency if run.baseline else None
    if ratio is None or original is None or ratio.low <= 0:
        return None
    return original.p50_ms / ratio.high, original.p50_ms / ratio.low


def _accuracy(m: Measurement) -> float | None:
    return m.top1.value if m.top1 else None


def _latency(m: Measurement) -> float | None:
    return m.latency.p50_ms if m.latency else None


MEASURES: dict[str, Measure] = {
    "accuracy": Measure(
        "accuracy",
        "Accuracy",
        "% of validation images",
        100,
        "high",
        _accuracy,
        fmt.percent,
        "most accurate",
        "Share of the validation images that get the right label.",
        _accuracy_bounds,
    ),
    "size": Measure(
        "size",
        "File size",
        "MB",
        1e-6,
        "low",
        lambda m: m.artifact_bytes,
        fmt.size,
        "smallest",
        "Bytes of the file that is shipped and loads back to the very same model.",
        spread=True,
    ),
    "latency": Measure(
        "latency",
        "Latency",
        "ms per image",
        1,
        "low",
        _latency,
        fmt.milliseconds,
        "fastest",
        "Median time of one pass through the model, as really run.",
        _latency_bounds,
    ),
    "macs": Measure(
        "macs",
        "Multiplications",
        "million MACs",
        1e-6,
        "low",
        lambda m: m.macs,
        fmt.count,
        "leanest",
        "Multiply-accumulate operations for one image. Zeros still count: they are multiplied too.",
    ),
    "sparsity": Measure(
        "sparsity",
        "Sparsity",
        "% of weights",
        100,
        "high",
        lambda m: m.sparsity,
        fmt.percent,
        "sparsest",
        "Share of the weights that are exactly zero.",
    ),
}
HORIZONTAL = ("size", "latency", "macs", "sparsity")
VERTICAL = ("accuracy", "latency", "size")
COLOURS = ("latency", "size", "sparsity", "accuracy")
