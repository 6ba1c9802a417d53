"""What is said of figures follows from the figures."""

import pytest

from compression.measure.notes import latency_notes, notes, without_latency
from compression.models.target import target_of
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Prune, Quantize
from compression.runs.results import Latency, Timing
from compression.runs.statistics import Ratio

RESNET = target_of("fashion-mnist/resnet18", device="cpu")
ONE = Ratio(value=1, low=1, high=1)


def timing(backend: str, ms: float) -> Timing:
    def latency(p50: float) -> Latency:
        return Latency(backend="-", threads=1, batch=1, p50_ms=p50, p90_ms=p50, p99_ms=p50)

    ratio = Ratio(value=4 / ms, low=4 / ms, high=4 / ms)
    return Timing(
        backend=backend,
        original_backend="onnx",
        baseline=latency(4),
        compressed=latency(ms),
        ratio=ratio,
        control=ONE,
    )


FLOAT, INT8 = timing("onnx", 3.21), timing("onnx-int8", 1.23)


def test_a_quantized_model_says_which_kernels_each_latency_is_of() -> None:
    recipe = Recipe(steps=(Quantize(bits=4, activation_bits=8),))
    (said,) = latency_notes(recipe, FLOAT, (FLOAT, INT8), {})
    assert "3.21 ms" in said and "float32 kernels" in said and "do not round their inputs" in said
    assert said.endswith("in int8 kernels it is 1.23 ms.")
    (said,) = latency_notes(Recipe(steps=(Quantize(bits=4),)), FLOAT, (FLOAT,), {})
    assert "int8" not in said and "inputs" not in said and "unpacked" in said


def test_what_is_not_quantized_says_nothing_of_kernels_but_of_the_half_precision_of_the_file() -> (
    None
):
    recipe = Recipe(steps=(Prune(sparsity=0.5),))
    assert latency_notes(recipe, FLOAT, (FLOAT,), {}) == ()
    (said,) = notes(RESNET, recipe)
    assert "2 bytes" in said


def test_a_model_without_a_data_set_says_that_it_has_no_accuracy() -> None:
    foreign = target_of("imagenet/resnet18", device="cpu")
    said = notes(foreign, Recipe(steps=(Prune(sparsity=0.5),)))
    assert "data set" in said[0]


def busy(timed: Timing) -> Timing:
    compressed = timed.compressed.model_copy(update={"on_busy_machine": True})
    return timed.model_copy(update={"compressed": compressed})


@pytest.mark.parametrize(
    ("timings", "missing", "words"),
    [
        ((busy(FLOAT), INT8), {}, "busy with other programs; the ratio may be off. Measure again"),
        ((FLOAT, busy(INT8)), {}, "busy with other programs"),
        ((FLOAT,), {"onnx": "it is no graph"}, "in PyTorch, because it is no graph."),
        ((FLOAT,), {"onnx-int8": "it is no graph"}, "in int8, because it is no graph."),
        ((FLOAT,), {}, "unpacked"),
    ],
)
def test_notes_on_latency_can_be_told_from_all_others(
    timings: tuple[Timing, ...], missing: dict[str, str], words: str
) -> None:
    recipe = Recipe(steps=(Quantize(bits=4),))
    said = latency_notes(recipe, timings[0], timings, missing)
    assert sum(words in note for note in said) == 1
    others = (*notes(RESNET, Recipe(steps=(Prune(sparsity=0.5),))), "Run 1 gave the same file.")
    assert without_latency((*said, *others, *said)) == others
