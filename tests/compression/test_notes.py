"""What is said of figures follows from the figures."""

import pytest

from compression.catalogue import card
from compression.measure.latency import Comparison
from compression.measure.size import Sizes
from compression.notes import notes
from compression.recipe import Recipe
from compression.run import Latency, Ratio
from compression.steps import Prune, Quantize

RESNET = card("fashion-mnist/resnet18")
CHANNELS = Recipe(steps=(Prune(sparsity=0.5, pattern="channels"),))
MACS = RESNET.macs or 0


def _sizes(sparsity: float) -> Sizes:
    return Sizes(1, 1, 1, 1, 1, 1, sparsity, 1.0)


def _timing(before: float, after: float) -> Comparison:
    def latency(p50: float) -> Latency:
        return Latency(
            backend="ONNX Runtime", threads=1, batch=1, p50_ms=p50, p90_ms=p50, p99_ms=p50
        )

    value = before / after
    ratio = Ratio(value=value, low=0.98 * value, high=1.02 * value)
    return Comparison(latency(before), latency(after), ratio, Ratio(value=1, low=1, high=1), None)


def test_removed_channels_are_not_called_slow_zeros() -> None:
    said = notes(RESNET, CHANNELS, _sizes(0.0), _timing(4, 1), MACS // 4)
    assert not any("zero" in note or "latency" in note for note in said)


@pytest.mark.parametrize("fixed", [0.5, 1.0, 2.0])
def test_a_shortfall_is_explained_by_the_part_that_does_not_shrink(fixed: float) -> None:
    said = notes(RESNET, CHANNELS, _sizes(0.0), _timing(4 + fixed, 1 + fixed), MACS // 4)
    (note,) = [n for n in said if "times less" in n]
    assert f"about {fixed:.2g} ms do not shrink" in note and "computes 4 times less" in note


def test_zeros_and_bits_have_no_speed_of_their_own() -> None:
    recipe = Recipe(steps=(Prune(sparsity=0.5), Quantize(bits=4)))
    assert any(
        "50 % of the weights" in n for n in notes(RESNET, recipe, _sizes(0.5), _timing(4, 4), None)
    )
    recipe = Recipe(steps=(Quantize(bits=4, activation_bits=8),))
    said = notes(RESNET, recipe, _sizes(0.0), _timing(4, 4), None)
    assert any("stored in few bits" in n for n in said)
    assert any("activations" in n and "float32" in n for n in said)
    assert not any("2 bytes" in n for n in said)
