"""What a person should know of measured figures, in whole sentences."""

from __future__ import annotations

from compression.catalogue import Card
from compression.measure.latency import Comparison
from compression.measure.size import Sizes
from compression.recipe import Recipe
from compression.steps import Quantize


def notes(
    found: Card, recipe: Recipe, sizes: Sizes, timing: Comparison, macs: int | None
) -> tuple[str, ...]:
    """What to know of the figures. `macs`: of the compressed model, if channels were removed."""
    said = []
    if found.dataset is None:
        said.append("Accuracy needs a data set; there is none for this model here.")
    if timing.note:
        said.append(timing.note)
    quantized = [step for step in recipe.steps if isinstance(step, Quantize)]
    if macs and found.macs:
        said += _shortfall(found.macs / macs, timing)
    if sizes.sparsity >= 0.05:
        said.append(
            f"{100 * sizes.sparsity:.3g} % of the weights are zero but stay in dense float32 "
            "kernels, so they make the file smaller and not the latency."
        )
    elif quantized:
        said.append(
            "Latency is that of float32 kernels: the quantized weights are stored in few bits and "
            "unpacked before they are used, so they make the file smaller and not the latency."
        )
    if any(step.activation_bits for step in quantized):
        said.append(
            "Rounded activations count in the accuracy; the latency is that of float32 kernels, "
            "which do not round them."
        )
    if found.bundled and not quantized and "distill" not in {step.step for step in recipe.steps}:
        said.append(
            "The original's weights are exact in half precision, so the file stores them in "
            "2 bytes each: that alone is a ratio of 2."
        )
    return tuple(said)


def _shortfall(less: float, timing: Comparison) -> list[str]:
    """Why a model that computes `less` times less is not as much faster, if it is not."""
    if timing.ratio.high > 0.8 * less:
        return []
    before, after = timing.baseline.p50_ms, timing.compressed.p50_ms
    # Two times, of which one part shrinks with the arithmetic and the other does not.
    fixed = (after - before / less) / (1 - 1 / less)
    return [
        f"It computes {less:.3g} times less and is {timing.ratio.value:.3g} times as fast: of the "
        f"{after:.3g} ms of a call, about {min(fixed, after):.2g} ms do not shrink with the "
        f"arithmetic (starting each operation, moving memory) at batch {timing.compressed.batch}."
    ]
