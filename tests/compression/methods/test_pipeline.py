"""The whole way: recipes in, measured runs out, prefixes not computed twice."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from compression.catalogue.cards import card
from compression.data.datasets import load_dataset
from compression.errors import Cancelled, InvalidInput
from compression.jobs.execute import execute
from compression.measure.accuracy import agreement, predict
from compression.measure.comparison import pack_result
from compression.methods import pipeline, step_cache
from compression.methods.pipeline import compress
from compression.models.load import original_of
from compression.models.parametrize import (
    compressible,
    grid_of,
    mask_of,
    materialize,
    weight_of,
)
from compression.models.placement import resolve_device
from compression.models.target import Target, target_of
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize
from compression.runs.progress import Progress
from compression.runs.results import Run, State
from compression.runs.store import new_run

MODEL, DATA = "fashion-mnist/squeezenet1_1", "fashion-mnist"
SHORT = Distill(epochs=1, learning_rate=0.001)


@pytest.fixture(autouse=True)
def _fresh(fresh_cache: Path) -> None:
    """No step is taken from what another test has kept."""


@pytest.fixture
def few_images() -> Target:
    """The model with 1,024 of the training images."""
    whole = load_dataset(DATA)
    return replace(target_of(MODEL), data=replace(whole, train=whole.train.head(1024)))


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([weight_of(m).flatten() for _, m in compressible(model)])


def run_of(*steps: Prune | Quantize | Distill, model: str = MODEL) -> Run:
    return new_run(model, DATA, Recipe(steps=steps))


def test_sparsity_is_exact_and_the_original_untouched() -> None:
    before = copy.deepcopy(original_of(MODEL).state_dict())
    made = compress(MODEL, Recipe(steps=(Prune(sparsity=0.7),)))
    weights = flat(made.model)
    assert int((weights == 0).sum()) == round(0.7 * weights.numel())
    assert all(torch.equal(before[k], v) for k, v in original_of(MODEL).state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        (Prune(sparsity=0.5), Quantize(bits=4)),
        (Quantize(bits=4), Prune(sparsity=0.5)),
        (Prune(sparsity=0.2), Quantize(bits=8), Prune(sparsity=0.5), Quantize(bits=4)),
    ],
)
def test_steps_combine_in_any_order_and_number(steps: tuple[Prune | Quantize, ...]) -> None:
    made = compress(MODEL, Recipe(steps=steps)).model
    assert float((flat(made) == 0).float().mean()) >= 0.5 - 1e-5
    for _, module in compressible(made):
        assert grid_of(module) is not None and mask_of(module) is not None
        channels = weight_of(module).flatten(1)
        assert max(len(c.unique()) for c in channels) <= 2**4 - 1


@pytest.mark.slow
@pytest.mark.parametrize("first", [(Prune(sparsity=0.6),), (Prune(sparsity=0.6), Quantize(bits=3))])
def test_distillation_moves_weights_but_not_zeros_or_grids(
    first: tuple[Prune | Quantize, ...], few_images: Target
) -> None:
    before = compress(few_images, Recipe(steps=first)).model
    after = compress(few_images, Recipe(steps=(*first, SHORT))).model
    zero = flat(before) == 0
    assert bool((flat(after)[zero] == 0).all())
    assert not torch.equal(flat(before), flat(after))
    for (_, old), (_, new) in zip(compressible(before), compressible(after), strict=True):
        a, b = grid_of(old), grid_of(new)
        if a is not None and b is not None:
            assert torch.equal(a.scale, b.scale)


def test_a_step_that_changes_nothing_says_so_also_from_the_cache() -> None:
    recipe = Recipe(steps=(Prune(threshold=0.0), Quantize(bits=8)))
    first, again = compress(MODEL, recipe), compress(MODEL, recipe)
    assert first.notes == again.notes and "changed nothing" in first.notes[0]
    twice = compress(MODEL, Recipe(steps=(Quantize(bits=8), Prune(sparsity=0.0))))
    assert len(twice.notes) == 1


@pytest.mark.slow
def test_a_prefix_is_computed_once_in_memory_and_across_processes(
    monkeypatch: pytest.MonkeyPatch, few_images: Target
) -> None:
    monkeypatch.setattr(step_cache, "KEPT_FROM_SECONDS", 0.0)
    applied: list[str] = []
    for name, apply in pipeline.STEPS.items():

        def spy(*args: object, name: str = name, apply: object = apply) -> object:
            applied.append(name)
            return apply(*args)  # type: ignore[operator]

        monkeypatch.setitem(pipeline.STEPS, name, spy)
    shared = (Prune(sparsity=0.5), Quantize(bits=4), SHORT)
    first = compress(few_images, Recipe(steps=shared))
    assert applied == ["prune", "quantize", "distill"]
    compress(few_images, Recipe(steps=(*shared, Quantize(bits=3))))
    assert applied[3:] == ["quantize"]
    step_cache._memory.clear()  # as in a new process
    again = compress(few_images, Recipe(steps=shared))
    assert applied[4:] == []
    state = again.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in first.model.state_dict().items())


def test_a_damaged_prefix_is_computed_again(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_cache, "KEPT_FROM_SECONDS", 0.0)
    recipe = Recipe(steps=(Prune(sparsity=0.5),))
    first = compress(MODEL, recipe)
    step_cache._memory.clear()
    (path,) = (fresh_cache / "prefixes").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    assert torch.equal(flat(first.model), flat(compress(MODEL, recipe).model))


@pytest.mark.slow
def test_same_recipe_same_file_another_seed_same_without_training() -> None:
    recipe, files = Recipe(steps=(Prune(sparsity=0.5), Quantize(bits=4))), set()
    for seed in (0, 0, 1):
        step_cache._memory.clear()
        model = compress(MODEL, recipe.model_copy(update={"seed": seed})).model
        files.add(pack_result(target_of(MODEL), model, recipe))
    assert len(files) == 1


@pytest.mark.slow
def test_a_run_is_measured_whole_and_adds_up() -> None:
    told: list[Progress] = []
    run = execute(run_of(Prune(sparsity=0.5), Quantize(bits=4)), report=told.append)
    assert run.state is State.DONE and run.baseline and run.compressed and run.delta
    base, small, delta = run.baseline, run.compressed, run.delta
    assert base.top1 and small.top1 and delta.top1 and delta.flips and delta.latency_ratio
    assert small.sparsity == pytest.approx(0.5, abs=1e-5)
    assert base.artifact_bytes == base.dense_bytes > small.artifact_bytes
    assert delta.size_ratio == base.artifact_bytes / small.artifact_bytes
    assert small.bits_per_weight == pytest.approx(8 * small.artifact_bytes / base.parameters)
    assert small.artifact_bytes < 1.01 * small.entropy_bound_bytes + 2_000
    gained = delta.flips.wrong_to_right - delta.flips.right_to_wrong
    assert delta.top1.value == pytest.approx(gained / 5000)
    assert small.top1.value - base.top1.value == pytest.approx(delta.top1.value)
    # nothing was searched: all validation images are there to be looked at
    assert small.top1.n == 5000 and run.environment["split"] == "validation"
    assert run.search_top1 is None and not any("search" in note for note in run.notes)
    assert delta.agreement is not None
    assert 1 - delta.agreement >= (delta.flips.right_to_wrong + delta.flips.wrong_to_right) / 5000
    stages = list(dict.fromkeys(p.stage for p in told))
    assert stages[:3] == ["Loading", "Pruning", "Quantizing"] and len(stages) >= 5
    assert all(0 <= p.fraction <= 1 for p in told)


@pytest.mark.slow
def test_eight_bits_agree_with_the_original_and_two_bits_do_not() -> None:
    split = load_dataset(DATA).validation.head(1000)
    before = predict(original_of(MODEL), split)
    models = (compress(MODEL, Recipe(steps=(Quantize(bits=b),))).model for b in (8, 2))
    fine, coarse = (agreement(before, predict(materialize(m), split)) for m in models)
    assert fine > 0.98 > coarse


def test_an_emptied_layer_is_refused_before_anything_is_measured() -> None:
    for step, field in ((Prune(threshold=1e9), "threshold"), (Prune(sparsity=1.0), "sparsity")):
        with pytest.raises(InvalidInput, match=rf"{field}: got .*layer features"):
            execute(run_of(step))


def test_a_report_that_raises_stops_the_run() -> None:
    def report(progress: Progress) -> None:
        if progress.stage == "Quantizing":
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        execute(run_of(Quantize(bits=4)), report=report)


@pytest.mark.slow
def test_an_imagenet_model_runs_for_size_and_latency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model_id = "imagenet/squeezenet1_1"
    path = card(model_id)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(pipeline_build("squeezenet1_1"), folder / path.file)
    run = execute(new_run(model_id, None, Recipe(steps=(Quantize(bits=4),))))
    assert run.compressed and run.compressed.top1 is None and run.compressed.latency
    assert run.delta and run.delta.top1 is None and run.delta.agreement is None
    assert any("data set" in note for note in run.notes)
    with pytest.raises(InvalidInput, match="distill"):
        execute(new_run(model_id, None, Recipe(steps=(Distill(),))))
    for step, field in (
        (Prune(sparsity=0.5, update="obs"), "update"),
        (Prune(pattern="2:4", score="obs"), "score"),
        (Quantize(rounding="gptq"), "rounding"),
        (Quantize(repair=("bias",)), "repair"),
    ):
        with pytest.raises(InvalidInput, match=rf"^{field}: got .*{model_id} has none here"):
            compress(model_id, Recipe(steps=(step,)))
    original_of.cache_clear()


def pipeline_build(architecture: str) -> dict[str, torch.Tensor]:
    from compression.models.load import build

    return build(architecture, 1000).state_dict()


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InvalidInput, match="device: got 'tpu'"):
        resolve_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match="device: got 'cuda'"):
            resolve_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_gives_nearly_the_cpus_accuracy() -> None:
    runs = [execute(run_of(Quantize(bits=4)), device=d).compressed for d in ("cpu", "cuda")]
    a, b = (r.top1.value for r in runs if r and r.top1)
    assert abs(a - b) < 0.005


def test_a_run_of_another_data_set_is_refused() -> None:
    with pytest.raises(InvalidInput, match="dataset: got 'imagenet'"):
        execute(run_of(Quantize()).model_copy(update={"dataset": "imagenet"}))
