"""What a person should know of measured figures, in whole sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from compression.catalogue.backends import BACKENDS, INT8, ONNX
from compression.models.target import Target
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Quantize
from compression.runs.format import busy_note, milliseconds
from compression.runs.results import Timing

# How every sentence on latency begins, that of older versions too.
_ON_LATENCY = ("Latency was measured ", "It could not be timed in int8", "The latency of ")


def notes(target: Target, recipe: Recipe) -> tuple[str, ...]:
    """What to know of the figures other than latency."""
    lines = []
    if target.data is None:
        lines.append("Accuracy needs a data set; there is none for this model here.")
    quantized = any(isinstance(step, Quantize) for step in recipe.steps)
    half_precision = target.card is not None and target.card.bundled
    if half_precision and not quantized and "distill" not in {step.step for step in recipe.steps}:
        lines.append(
            "The original's weights are exact in half precision, so the file stores them in "
            "2 bytes each: that alone is a ratio of 2."
        )
    return tuple(lines)


def latency_notes(
    recipe: Recipe, main: Timing, timings: Sequence[Timing], missing: Mapping[str, str]
) -> tuple[str, ...]:
    """What to know of the latency of a run.

    Args:
        recipe: what was done.
        main: the timing that the run's latency is of.
        timings: all of them.
        missing: why a backend has none.
    """
    lines = []
    if why := missing.get(ONNX):
        lines.append(f"Latency was measured in PyTorch, because {why}.")
    elif why := missing.get(INT8):
        lines.append(f"It could not be timed in int8, because {why}.")
    if any(timing.compressed.on_busy_machine for timing in timings):
        lines.append(busy_note())
    if quantized := [step for step in recipe.steps if isinstance(step, Quantize)]:
        lines.append(_kernels(quantized, main, timings))
    return tuple(lines)


def without_latency(lines: Iterable[str]) -> tuple[str, ...]:
    """Notes of a run but for those on its latency."""
    return tuple(line for line in lines if not line.startswith(_ON_LATENCY))


def _kernels(quantized: Sequence[Quantize], main: Timing, timings: Sequence[Timing]) -> str:
    """Which kernels the latency is of, and what it is in those of the quantized numbers."""
    inputs = any(step.activation_bits for step in quantized)
    line = (
        f"The latency of {_ms(main)} is that of {BACKENDS[main.backend].precision} kernels, for "
        "which the quantized weights are unpacked"
    )
    line += ", and which do not round their inputs as the accuracy does" if inputs else ""
    int8 = next((t for t in timings if t.backend == INT8), None)
    return f"{line}; in int8 kernels it is {_ms(int8)}." if int8 else f"{line}."


def _ms(timing: Timing) -> str:
    return milliseconds(timing.compressed.p50_ms)
