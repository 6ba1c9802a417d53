"""Methods put together on bundled models, by way of `compress`: bytes, zeros, grids, accuracy."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compression.catalogue.cards import card
from compression.data.datasets import load_dataset
from compression.data.splits import Dataset
from compression.errors import InvalidInput
from compression.export.packed import file
from compression.measure.accuracy import flips, predict
from compression.methods import pipeline, step_cache
from compression.methods.pipeline import compress
from compression.methods.quantize import step as quantize_step
from compression.methods.quantize.block_reconstruction import reconstruct
from compression.models.load import original_of
from compression.models.parametrize import compressible, materialize, weight_of
from compression.models.target import Target, target_of
from compression.recipe.presets import PRESETS, apply_preset
from compression.recipe.recipe import Recipe, parse
from compression.recipe.steps import Distill, Prune, Quantize
from tests.compression.tiny import grid_held, mask_of

MODEL, SHUFFLE, DATA = (
    "fashion-mnist/squeezenet1_1",
    "fashion-mnist/shufflenet_v2_x0_5",
    "fashion-mnist",
)


@pytest.fixture(autouse=True)
def _fresh(fresh_cache: Path) -> None:
    """No step is taken from what another test has kept."""


def flat(model: nn.Module) -> Tensor:
    return torch.cat([weight_of(m).flatten() for _, m in compressible(model)])


@pytest.fixture(autouse=True)
def short_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize_step, "reconstruct", partial(reconstruct, epochs=1))


@cache
def few() -> Dataset:
    """Few images to calibrate on and to look at."""
    whole = load_dataset(DATA)
    return replace(
        whole, calibration=whole.calibration.head(128), validation=whole.validation.head(500)
    )


def little(model_id: str) -> Target:
    """A bundled model with few images."""
    return replace(target_of(model_id), data=few())


def accuracy(model: nn.Module) -> float:
    """Accuracy on the few validation images."""
    right = predict(materialize(model), few().validation).right
    return float(right.float().mean())


def packed(model_id: str, recipe: Recipe) -> bytes:
    """The file of a recipe computed afresh."""
    step_cache._memory.clear()
    model = compress(little(model_id), recipe).model
    found = card(model_id)
    return file.pack(
        model, architecture=found.architecture, classes=found.classes, details={"key": recipe.key}
    )


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_the_same_bytes_each_time(preset: str) -> None:
    steps = [
        apply_preset(preset, {"step": "prune", "sparsity": 0.6}),
        apply_preset(preset, {"step": "quantize", "bits": 4}),
    ]
    recipe = parse(Recipe, {"steps": steps})
    once = packed(SHUFFLE, recipe)
    assert packed(SHUFFLE, recipe) == once
    weights = flat(file.unpack(once))
    assert int((weights == 0).sum()) >= round(0.6 * weights.numel())


@pytest.mark.slow
def test_another_seed_gives_other_bytes_only_where_chance_has_a_part() -> None:
    for score, same in (("random", False), ("obs", True)):
        made = []
        for seed in (0, 1):
            step = Prune.model_validate({"sparsity": 0.5, "scope": "layer", "score": score})
            step_cache._memory.clear()
            made.append(flat(compress(little(MODEL), Recipe(steps=(step,), seed=seed)).model))
        assert torch.equal(*made) == same


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_id", "how", "rounding"),
    [
        (MODEL, {"sparsity": 0.7, "scope": "allocated", "score": "obs"}, "gptq"),
        (SHUFFLE, {"sparsity": 0.7, "scope": "allocated", "score": "obs"}, "gptq"),
        (SHUFFLE, {"sparsity": 0.5, "scope": "layer", "score": "fisher"}, "reconstruct"),
        (MODEL, {"pattern": "2:4", "score": "activation"}, "gptq"),
    ],
    ids=str,
)
def test_bundled_models_are_pruned_compensated_and_rounded(
    model_id: str, how: dict[str, Any], rounding: str
) -> None:
    repair = ("batchnorm", "bias")
    first = Prune.model_validate({**how, "update": "obs", "repair": repair})
    second = Quantize.model_validate({"bits": 4, "rounding": rounding, "repair": repair})
    pruned = compress(little(model_id), Recipe(steps=(first,))).model
    both = compress(little(model_id), Recipe(steps=(first, second))).model
    kept = flat(pruned) != 0
    assert bool((flat(both)[~kept] == 0).all())
    if first.sparsity:
        masked = sum(int((~mask_of(m)).sum()) for _, m in compressible(both))
        assert masked == pytest.approx(
            first.sparsity * kept.numel(), abs=len(list(compressible(both)))
        )
    for _, module in compressible(both):
        weight, grid = weight_of(module), grid_held(module).grid
        assert torch.equal(grid.decode(grid.encode(weight)), weight)
    right, was = (accuracy(m) for m in (both, original_of(model_id)))
    assert right > was - 0.1


@pytest.mark.slow
def test_as_much_as_accuracy_allows_by_each_way_of_pruning() -> None:
    original, split = original_of(MODEL), few().validation
    before = predict(materialize(original), split)
    found = []
    for how in ({}, {"scope": "layer", "update": "obs", "repair": ["batchnorm", "bias"]}):
        step = Prune.model_validate({"max_drop": 2.0, **how})
        made = compress(little(MODEL), Recipe(steps=(step,)))
        changed = flips(before, predict(materialize(made.model), split))
        assert changed.right_to_wrong - changed.wrong_to_right <= 0.02 * len(split)
        assert any("Bisection found a sparsity" in note for note in made.notes)
        found.append(float((flat(made.model) == 0).float().mean()))
    assert 0.1 < found[0] < found[1]


def test_compensation_after_quantization_is_refused() -> None:
    recipe = Recipe(steps=(Quantize(bits=4), Prune(sparsity=0.5, update="obs")))
    with pytest.raises(InvalidInput, match=r"^update: got 'obs'.*prune before quantizing"):
        compress(little(MODEL), recipe)


def test_a_model_whose_layers_mean_something_else_is_its_own_reference() -> None:
    original = original_of(MODEL)
    for steps in ((), (Prune(sparsity=0.5), Quantize(bits=4, rounding="gptq"))):
        assert pipeline._reference(materialize(original), original, steps) is original
    for steps in ((Quantize(equalization="cross-layer"),), (Distill(), Prune(sparsity=0.5))):
        model = materialize(original)
        found = pipeline._reference(model, original, steps)
        assert found is not original and found is not model
        assert torch.equal(flat(found), flat(model))
