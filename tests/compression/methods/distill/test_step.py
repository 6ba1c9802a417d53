"""Distillation inside a recipe: students, stops, checkpoints and curves through the whole way."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from compression.catalogue.cards import card
from compression.data.datasets import load_dataset
from compression.errors import Cancelled, InvalidInput
from compression.export.packed.file import details, pack, unpack
from compression.jobs.execute import execute
from compression.methods import step_cache
from compression.methods.distill import step as distill_step
from compression.methods.distill.config import TrainingConfig
from compression.methods.pipeline import compress
from compression.models.load import load_model
from compression.models.parametrize import compressible
from compression.models.target import Target, target_of
from compression.models.widths import widths
from compression.recipe.recipe import Recipe
from compression.recipe.steps import (
    Distill,
    Prune,
    Quantize,
    Step,
)
from compression.runs.progress import Progress
from compression.runs.results import State
from compression.runs.store import new_run

pytestmark = pytest.mark.slow


MODEL, STUDENT = "fashion-mnist/squeezenet1_1", "fashion-mnist/shufflenet_v2_x0_5"
SHORT = Distill(images=640, learning_rate=0.001)


@pytest.fixture(autouse=True)
def _fresh(fresh_cache: Path) -> None:
    """No step is taken from what another test has kept."""


@pytest.fixture(scope="module")
def target() -> Target:
    """The model with few images to check a training on."""
    whole = load_dataset("fashion-mnist")
    few = replace(whole, validation=whole.validation.head(200))
    return replace(target_of(MODEL, device="cpu"), data=few)


def recipe(*steps: Step) -> Recipe:
    return Recipe(steps=steps)


def report_and_save_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    often = partial(TrainingConfig, report_seconds=0.0, checkpoint_seconds=0.0)
    monkeypatch.setattr(distill_step, "TrainingConfig", often)


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_another_model_is_trained_compressed_and_measured_against_the_teacher() -> None:
    steps = (SHORT.model_copy(update={"student": STUDENT}), Quantize(bits=4))
    run = execute(new_run(MODEL, "fashion-mnist", recipe(*steps), State.RUNNING), device="cpu")
    found = card(STUDENT)
    assert run.compressed is not None and run.baseline is not None and run.delta is not None
    assert run.baseline.parameters == card(MODEL).parameters
    assert run.compressed.parameters == found.parameters
    assert run.compressed.macs == found.macs
    assert run.baseline.top1 is not None and run.compressed.top1 is not None
    assert run.compressed.top1.value > 0.8 and run.delta.agreement is not None
    assert run.delta.latency_ratio is not None
    assert "ONNX Runtime" in (run.compressed.latency.backend if run.compressed.latency else "")


def test_a_student_comes_back_from_the_cache_on_disk(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_cache, "KEPT_FROM_SECONDS", 0.0)
    wanted = recipe(SHORT.model_copy(update={"student": STUDENT}), Prune(sparsity=0.5))
    first = compress(target, wanted)
    step_cache._memory.clear()
    reports: list[Progress] = []
    again = compress(target, wanted, report=reports.append)
    assert same(first.model, again.model) and again.curves == first.curves
    assert [p.curve for p in reports if p.curve] == [first.curves[0]]
    architecture = card(STUDENT).architecture
    data = pack(again.model, architecture=architecture, classes=10, details={"a": 1})
    assert same(unpack(data), unpack(data)) and details(data) == {"a": 1}


def test_a_student_starts_from_its_own_weights_or_fresh_ones(target: Target) -> None:
    slow = {"student": STUDENT, "learning_rate": 1e-9, "weight_decay": 0.0}
    own = compress(target, recipe(SHORT.model_copy(update=slow))).model
    fresh = SHORT.model_copy(update={**slow, "initial": "fresh"})
    others = []
    for _ in range(2):
        step_cache._memory.clear()
        others.append(compress(target, recipe(fresh)).model)
    trained = load_model(STUDENT)
    for (name, module), (_, known) in zip(compressible(own), compressible(trained), strict=True):
        assert torch.allclose(module.weight, known.weight, atol=1e-6), name  # type: ignore[arg-type]
    assert widths(others[0]) == widths(trained) and same(*others)
    assert not torch.allclose(others[0].conv1[0].weight, own.conv1[0].weight, atol=1e-2)  # type: ignore[index, union-attr, arg-type]


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ("fashion-mnist/nothing", "model: got 'fashion-mnist/nothing'"),
        ("imagenet/resnet18", "student: got 'imagenet/resnet18', allowed: a model of the 10"),
    ],
)
def test_a_student_that_cannot_be_is_refused_before_anything_runs(student: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        compress(MODEL, recipe(Distill(student=student)), device="cpu")


def test_a_stopped_training_is_measured_marked_and_not_taken_for_the_recipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report_and_save_at_every_step(monkeypatch)
    wanted = recipe(SHORT, Quantize(bits=4))
    stopped = False

    def report(progress: Progress) -> None:
        nonlocal stopped
        if progress.keeps and not stopped:
            stopped = True
            raise Cancelled("stop")

    run = new_run(MODEL, "fashion-mnist", wanted, State.RUNNING)
    done = execute(run, device="cpu", report=report)
    assert done.state is State.DONE and done.stopped_early and done.compressed is not None
    assert any(note.startswith("Stopped early after 0.2 of 1 epochs") for note in done.notes)
    whole = compress(MODEL, wanted, device="cpu")
    assert not whole.stopped and whole.curves[0].points[-1].step == 5


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_bytes(
    target: Target, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(Prune(sparsity=0.6), SHORT.model_copy(update={"epochs": 2}), Quantize(bits=4))
    expected = compress(target, wanted).model
    for file in fresh_cache.rglob("*.safetensors"):
        file.unlink()
    step_cache._memory.clear()
    report_and_save_at_every_step(monkeypatch)

    class Killed(BaseException):
        """As a signal would: nothing catches it."""

    def die(progress: Progress) -> None:
        if progress.point is not None and progress.point.step >= 7:
            raise Killed

    with pytest.raises(Killed):
        compress(target, wanted, report=die)
    assert list((fresh_cache / "checkpoints").glob("*.pt"))
    reports: list[Progress] = []
    again = compress(target, wanted, report=reports.append).model
    first = next(p for p in reports if p.point is not None)
    assert first.point is not None and first.point.step == 7
    assert same(again, expected)
    assert not list((fresh_cache / "checkpoints").glob("*.pt"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_on_cuda_says_so_and_ends_near_the_cpu(precision: str) -> None:
    step = SHORT.model_copy(update={"precision": precision, "images": 6400})
    made = {d: compress(MODEL, recipe(step), device=d) for d in ("cpu", "cuda")}
    assert made["cuda"].curves[0].device == torch.cuda.get_device_name()
    last = [made[d].curves[0].points[-1].top1 for d in made]
    assert last[0] is not None and last[1] is not None
    assert abs(last[0].value - last[1].value) < 0.02
