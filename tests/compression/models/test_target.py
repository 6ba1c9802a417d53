"""A target is made once, and nobody changes the model in it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from compression.catalogue.cards import card
from compression.data.datasets import load_dataset
from compression.data.splits import noise
from compression.errors import InvalidInput, NotExportable
from compression.jobs.execute import execute
from compression.measure import accuracy, comparison
from compression.measure.accuracy import predict
from compression.measure.backend_timing import deployable
from compression.methods import pipeline, step_cache
from compression.methods.pipeline import compress
from compression.models import load, target
from compression.models.load import count_macs, original_of
from compression.models.placement import evaluating, placed
from compression.models.target import Target, target_of
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize
from compression.runs.results import State
from compression.runs.store import new_run

MODEL, STUDENT = "fashion-mnist/squeezenet1_1", "fashion-mnist/shufflenet_v2_x0_5"
RECIPE = Recipe(steps=(Prune(sparsity=0.5), Quantize(bits=4)))


def fingerprint(model: nn.Module) -> list[tuple[str, int, int, torch.device, tuple[int, ...]]]:
    """Where each tensor of a model is, how it lies, and how often it was written to."""
    return [
        (name, t.data_ptr(), t._version, t.device, t.stride())
        for name, t in model.state_dict(keep_vars=True).items()
    ]


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def mixed() -> nn.Module:
    """A small model in the default layout, one part of it in training mode."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model.append(nn.Linear(8, 10)).eval()
    model[2].train()
    return model


@pytest.mark.slow
def test_a_whole_run_looks_a_model_up_once_and_neither_moves_nor_changes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = original_of(MODEL)
    before, values = fingerprint(original), copy.deepcopy(original.state_dict())
    seen: list[str] = []
    for name in ("card", "load_dataset"):
        known = getattr(target, name)

        def spy(key: str, name: str = name, known: object = known) -> object:
            seen.append(f"{name} {key}")
            return known(key)  # type: ignore[operator]

        monkeypatch.setattr(target, name, spy)
    steps = (*RECIPE.steps, Distill(images=320, learning_rate=0.01, grid="learned"))
    execute(new_run(MODEL, "fashion-mnist", Recipe(steps=steps), State.RUNNING), device="cpu")
    assert seen == [f"card {MODEL}", "load_dataset fashion-mnist"]
    for room in (pipeline, comparison):
        assert not {"card", "load_dataset", "original_of"} & set(vars(room))
    assert fingerprint(original) == before and not any(modes(original))
    assert all(torch.equal(values[k], v) for k, v in original.state_dict().items())


@pytest.mark.parametrize(
    "use",
    [
        lambda model, split: predict(model, split),
        lambda model, split: count_macs(model, (3, 32, 32)),
        lambda model, split: deployable(model, "mixed", noise((3, 32, 32), 2)),
        lambda model, split: compress(Target(model, (3, 32, 32)), RECIPE),
    ],
    ids=["predict", "count_macs", "deployable", "compress"],
)
def test_no_function_changes_its_callers_model(use: object) -> None:
    model, split = mixed(), load_dataset("fashion-mnist").validation.head(300)
    before, mode = fingerprint(model), modes(model)
    use(model, split)  # type: ignore[operator]
    assert fingerprint(model) == before and modes(model) == mode


def test_a_copy_is_made_only_where_a_model_lies_otherwise() -> None:
    model = mixed()
    assert placed(model, "cpu", channels_last=False) is model
    copied = placed(model, "cpu")
    assert copied is not model and placed(copied, "cpu") is copied
    assert placed(original_of(MODEL), "cpu") is original_of(MODEL)
    with evaluating(model):
        assert not any(modes(model))
    assert modes(model) == modes(mixed())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_original_stays_on_the_cpu_when_a_gpu_does_the_work() -> None:
    before = fingerprint(original_of(MODEL))
    execute(new_run(MODEL, "fashion-mnist", RECIPE, State.RUNNING), device="cuda")
    assert fingerprint(original_of(MODEL)) == before


def test_a_target_knows_what_its_card_says() -> None:
    made, entry = target_of(MODEL, RECIPE, device="cpu", split="test"), card(MODEL)
    assert (made.name, made.classes, made.macs) == (entry.id, entry.classes, entry.macs)
    assert made.parameters == sum(p.numel() for p in made.model.parameters()) == entry.parameters
    assert (made.device, made.split, made.base) == ("cpu", "test", made)
    assert made.measured is not None and len(made.measured) == 10_000
    assert made.model is original_of(MODEL) is made.on_device
    assert target_of(made, RECIPE) is made


def test_a_target_gets_the_student_of_each_recipe() -> None:
    first = Recipe(steps=(Distill(student=STUDENT),))
    made = target_of(MODEL, first, device="cpu", split="test")
    assert made.student is not None and made.base.name == STUDENT
    assert (made.base.device, made.base.split, made.base.data) == ("cpu", "test", made.data)
    assert target_of(made, first) is made
    assert target_of(made, RECIPE).student is None
    assert target_of(target_of(MODEL, device="cpu"), first).base.card == card(STUDENT)


def test_no_weights_are_loaded_before_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "load_model", lambda _: pytest.fail("loaded"))
    original_of.cache_clear()
    made = target_of("imagenet/resnet18", RECIPE, device="cpu")
    assert made.images(2).shape == (2, 3, 224, 224) and made.classes == 1000
    with pytest.raises(InvalidInput, match="rounding: got 'gptq'"):
        compress("imagenet/resnet18", Recipe(steps=(Quantize(rounding="gptq"),)))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"device": "tpu"}, "device: got 'tpu'"),
        ({"split": "dev"}, "split: got 'dev'"),
    ],
)
def test_what_cannot_be_is_refused_at_the_door(how: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        target_of(MODEL, RECIPE, **how)  # type: ignore[arg-type]


def test_a_module_of_ones_own_is_compressed_and_named_in_caches_by_its_weights() -> None:
    step_cache._memory.clear()
    one, two = mixed(), mixed()
    nn.init.normal_(two[0].weight)  # type: ignore[arg-type]
    targets = [Target(model, (3, 32, 32), name="mine") for model in (one, two, mixed())]
    assert targets[0].identity == targets[2].identity != targets[1].identity
    assert targets[0].classes == 10 and targets[0].macs == count_macs(one, (3, 32, 32))
    recipe = Recipe(steps=(Prune(sparsity=0.5, scope="layer"), Quantize(bits=4)))
    made = [compress(t, recipe).model for t in targets]
    for model, own in zip(made, (one, two), strict=False):
        weights: Tensor = model[0].weight  # type: ignore[index, assignment]
        kept = weights != 0
        assert 0 < int(kept.sum()) < kept.numel()
        assert bool((weights.sign() == own[0].weight.sign())[kept].all())  # type: ignore[index, operator, union-attr]
    with pytest.raises(NotExportable, match="model mine: a packed file needs the name"):
        comparison.measure(targets[0], made[0], recipe)
    with pytest.raises(InvalidInput, match=r"max_drop: got 1.0, allowed: .*; mine has none here"):
        compress(targets[0], Recipe(steps=(Prune(max_drop=1.0),)))


@pytest.mark.slow
def test_a_module_of_ones_own_with_data_is_trained_and_measured() -> None:
    whole = load_dataset("fashion-mnist")
    data = replace(whole, train=whole.train.head(256), validation=whole.validation.head(400))
    module = copy.deepcopy(original_of(MODEL))
    made = Target(module, (3, 32, 32), data, "mine", architecture="squeezenet1_1")
    recipe = Recipe(steps=(Prune(sparsity=0.3), Distill(learning_rate=0.001), Quantize(bits=8)))
    figures = comparison.measure(made, compress(made, recipe).model, recipe)
    assert figures.compressed.top1 is not None and figures.compressed.top1.n == 400
    assert figures.compressed.top1.value > 0.8
    assert figures.environment["weights"] == "mine"


def test_predictions_of_originals_are_kept_but_not_without_end() -> None:
    accuracy._predictions.clear()
    data = load_dataset("fashion-mnist")
    made = Target(mixed(), (3, 32, 32), data)
    first = accuracy.original_predictions(made, data.validation.head(10))
    assert accuracy.original_predictions(made, data.validation.head(10)) is first
    for n in range(11, 20):
        assert len(accuracy.original_predictions(made, data.validation.head(n)).labels) == n
    assert len(accuracy._predictions) == accuracy.KEPT_PREDICTIONS
