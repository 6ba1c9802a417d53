"""Training respects masks, grids and its seed; stops, goes on and ends as it says."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from compression.data.augmentation import augment
from compression.data.datasets import FASHION_MNIST
from compression.data.splits import Split
from compression.errors import Cancelled, CompressionError, InvalidInput
from compression.measure.accuracy import predict
from compression.methods.distill.config import Outcome, TrainingConfig
from compression.methods.distill.loop import checkpoint_interval, distill
from compression.methods.distill.mixed_precision import arithmetic
from compression.methods.distill.optimizers import OPTIMIZERS, SCHEDULES, Schedule, make_optimizer
from compression.methods.distill.student import freeze_dead_channels
from compression.methods.quantize.weight_ranges import minmax
from compression.models.parametrize import (
    compressible,
    grid_of,
    mask_of,
    parametrize_weight,
    quantizer_of,
    stored_weight,
    weight_of,
)
from compression.recipe.distill import Optimizer
from compression.recipe.distill import Schedule as ScheduleName
from compression.recipe.steps import Distill
from compression.runs.progress import Progress
from compression.runs.statistics import Interval, proportion
from tests.compression.tiny import convolutional, transformer


class Net(nn.Module):
    """Two stages, batch normalisation, dropout: all that training treats differently."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, 4, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.second = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(2 * width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        logits: Tensor = self.head(self.drop(x.mean((2, 3))))
        return logits


def net(seed: int = 0, width: int = 8) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(width).eval()


def images(n: int = 256, seed: int = 0) -> Split:
    """Four classes that differ in how high the light is."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 120, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.arange(n) % 4
    for at, label in enumerate(labels.tolist()):
        pixels[at, :, 7 * label : 7 * label + 7] += 120
    return Split("train", pixels, labels, FASHION_MNIST)


TRAIN, VALIDATION = images(), images(120, seed=1)


def accuracy(model: nn.Module) -> Interval:
    predictions = predict(model, VALIDATION)
    return proportion(int(predictions.right.sum()), len(predictions.labels))


def config(report: Callable[[Progress], None] | None = None, **values: Any) -> TrainingConfig:
    """A short training; `values` are settings of the step or of the config itself."""
    names = {field.name for field in fields(TrainingConfig)}
    given = {name: values.pop(name) for name in list(values) if name in names}
    step = Distill(**{"batch_size": 32, "learning_rate": 0.05, **values})
    plain = TrainingConfig(step, TRAIN, accuracy, 3, report=report)
    return replace(plain, **given)


def trained(**values: Any) -> tuple[nn.Module, Outcome]:
    student = net()
    return student, distill(student, net(1), config(**values))


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# The plain step


def test_alpha_zero_is_plain_training_step_by_step() -> None:
    student, _ = trained(alpha=0, epochs=2, optimizer="momentum", schedule="constant")
    plain = net()
    optimizer = torch.optim.SGD(
        plain.parameters(), 0.05, momentum=0.9, weight_decay=1e-4, fused=True
    )
    generator = torch.Generator().manual_seed(3)
    plain.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for _ in range(2):
            order = torch.randperm(len(TRAIN), generator=generator)
            for start in range(0, len(TRAIN), 32):
                picked = order[start : start + 32]
                x = FASHION_MNIST(augment(TRAIN.images[picked], generator))
                loss = F.cross_entropy(plain(x), TRAIN.labels[picked])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    assert same(student, plain)


@pytest.mark.parametrize("make", [convolutional, transformer])
def test_gradients_lie_in_memory_as_their_weights_which_fused_optimizers_rely_on(
    make: Callable[[], nn.Module],
) -> None:
    model = make().to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for _, layer in list(compressible(model))[1:]:
        weight = weight_of(layer)
        parametrize_weight(
            layer, weight.abs() > weight.abs().median(), minmax(weight, 4, True, True)
        )
    model(FASHION_MNIST(TRAIN.images[:8])).logsumexp(1).sum().backward()
    weights = [p for p in model.parameters() if p.grad is not None]
    assert len(weights) > 8
    for weight in weights:
        assert weight.grad is not None
        pairs = zip(weight.shape, weight.stride(), weight.grad.stride(), strict=True)
        assert all(a == b for size, a, b in pairs if size > 1)


def test_it_learns() -> None:
    student, outcome = trained(alpha=0, epochs=25)
    first, last = outcome.curve.points[0], outcome.curve.points[-1]
    assert first.top1 is not None and last.top1 is not None and first.loss is None
    assert last.top1.value > 0.6 > first.top1.value
    assert accuracy(student) == last.top1


def test_same_seed_same_weights_and_another_seed_others() -> None:
    (first, _), (again, _), (other, _) = trained(), trained(), trained(seed=4)
    assert same(first, again) and not same(first, other)


def test_global_random_state_and_the_teacher_are_left_alone() -> None:
    teacher, student = net(1), net()
    before = copy.deepcopy(teacher)
    state = torch.get_rng_state()
    distill(student, teacher, config(mixup=0.2))
    assert torch.equal(torch.get_rng_state(), state)
    assert same(teacher, before)


# Masks, grids, batch normalisation


def parametrized(bits: int = 4) -> Net:
    student = net()
    for _, module in compressible(student):
        weight = weight_of(module)
        parametrize_weight(
            module, weight.abs() > weight.abs().median(), minmax(weight, bits, True, True)
        )
    return student


@pytest.mark.parametrize("grid", ["fixed", "learned"])
@pytest.mark.parametrize("extra", [{}, {"l1": 1e-3}, {"optimizer": "adam", "learning_rate": 0.01}])
def test_masks_and_grids_hold_bit_by_bit_while_weights_move(
    grid: str, extra: dict[str, Any]
) -> None:
    student = parametrized()
    before = copy.deepcopy(student)
    distill(student, net(1), config(grid=grid, **extra))
    for (_, module), (_, old) in zip(compressible(student), compressible(before), strict=True):
        mask, quantizer = mask_of(module), grid_of(module)
        assert mask is not None and quantizer is not None
        old_mask, old_grid = mask_of(old), grid_of(old)
        assert old_mask is not None and old_grid is not None
        weight = weight_of(module)
        assert torch.equal(mask, old_mask)
        assert bool((weight[~mask] == 0).all())
        assert torch.equal(quantizer.decode(quantizer.encode(weight)), weight)
        assert not torch.equal(stored_weight(module), stored_weight(old))
        moved = not torch.equal(quantizer.scale, old_grid.scale)
        assert moved == (grid == "learned")
        scale = module.parametrizations.weight[1].scale
        assert not scale.requires_grad and bool((scale > 0).all())


def test_learned_step_size_has_the_gradient_of_its_paper() -> None:
    """LSQ, equation 3: round(v) - v inside the range, the end of the range outside."""
    weight = torch.tensor([[-9.0, -1.3, 0.2, 2.6, 50.0]])
    module = nn.Linear(5, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(weight)
    grid = minmax(torch.full((1, 5), 7.0), 4, True, True)
    parametrize_weight(module, None, grid)
    quantizer = quantizer_of(module)
    assert quantizer is not None
    quantizer.learn()
    module.weight.sum().backward()
    v = weight / grid.scale
    each = torch.where(
        v < grid.low, float(grid.low), torch.where(v > grid.high, float(grid.high), v.round() - v)
    )
    assert quantizer.scale.grad is not None
    expected = each.sum() / math.sqrt(5 * grid.high)
    assert torch.allclose(quantizer.scale.grad.sum(), expected, rtol=1e-5)


def test_a_grid_to_learn_where_there_is_none_is_stages() -> None:
    _, outcome = trained(grid="learned")
    assert outcome.notes == ("No weight is on a grid, so there was no grid to learn.",)


def test_frozen_statistics_stay_and_live_ones_move() -> None:
    for batchnorm, moves in (("frozen", False), ("live", True)):
        student, _ = trained(batchnorm=batchnorm)
        moved = not torch.equal(student.first[1].running_mean, net().first[1].running_mean)  # type: ignore[index, union-attr]
        assert moved is moves


def test_without_dropout_it_trains_as_a_model_that_has_none() -> None:
    without, kept = net(), net()
    without.drop.p = 0.0
    distill(without, net(1), config(alpha=0))
    distill(kept, net(1), config(alpha=0))
    student, _ = trained(alpha=0, dropout="none")
    assert same(student, without)
    assert not same(student, kept)


def dead(student: Net) -> Net:
    """Half of the first stage's channels constant, as pruning leaves them."""
    mask = torch.ones_like(weight_of(student.first[0]), dtype=torch.bool)
    mask[::2] = False
    parametrize_weight(student.first[0], mask, None)
    norm = student.first[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    with torch.no_grad():
        norm.running_mean.copy_(torch.linspace(-0.3, 0.3, 8))  # whatever it was before pruning
        norm.bias.copy_(torch.linspace(-0.5, 0.5, 8))
    return student


CALIBRATION = FASHION_MNIST(TRAIN.images[:64])


def test_freezing_dead_channels_changes_no_output() -> None:
    student = dead(net())
    before = predict(student, VALIDATION).logits
    handles = freeze_dead_channels(student, [CALIBRATION])
    assert len(handles) == 1
    norm = student.first[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert bool((norm.weight[::2] == 0).all()) and bool((norm.weight[1::2] != 0).all())
    assert torch.allclose(predict(student, VALIDATION).logits, before, atol=1e-5)
    assert freeze_dead_channels(net(), [CALIBRATION]) == []


@pytest.mark.parametrize("optimizer", ["nesterov", "adamw"])
def test_frozen_channels_stay_constant_and_statistics_are_those_of_the_last_weights(
    optimizer: Any,
) -> None:
    student = dead(net())
    step = Distill(batch_size=32, learning_rate=0.02, optimizer=optimizer)
    distill(student, net(1), TrainingConfig(step, TRAIN, accuracy, 3, calibration=[CALIBRATION]))
    norm = student.first[1]
    assert isinstance(norm, nn.BatchNorm2d) and not norm.weight._backward_hooks
    assert norm.running_mean is not None and norm.running_var is not None
    assert bool((norm.weight[::2] == 0).all())
    with torch.no_grad():
        inputs = student.first[0](CALIBRATION)
    assert torch.allclose(norm.running_mean, inputs.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, inputs.var((0, 2, 3)), rtol=1e-3, atol=1e-6)


# Losses in the loop


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["hinton", "dkd", "logits", "attention", "features"])
@pytest.mark.parametrize("width", [8, 12])
def test_every_loss_brings_the_student_nearer_to_its_teacher(loss: str, width: int) -> None:
    teacher, student = net(1, width), net()
    distill(teacher, teacher, config(alpha=0, epochs=25))
    before = agreement_of(student, teacher)
    outcome = distill(student, teacher, config(loss=loss, epochs=12, alpha=0.9))
    assert agreement_of(student, teacher) > before + 0.2
    assert outcome.curve.points[-1].soft is not None
    assert not student._forward_hooks and not teacher.first._forward_hooks


def agreement_of(student: nn.Module, teacher: nn.Module) -> float:
    a, b = predict(student, VALIDATION), predict(teacher, VALIDATION)
    return float((a.classes == b.classes).float().mean())


def test_labels_are_not_needed_to_match_raw_answers() -> None:
    mixed = replace(TRAIN, labels=TRAIN.labels.flip(0))
    one, other = net(), net()
    step = Distill(loss="logits", batch_size=32)
    distill(one, net(1), TrainingConfig(step, TRAIN, accuracy, 0))
    distill(other, net(1), TrainingConfig(step, mixed, accuracy, 0))
    assert same(one, other)


def test_named_layers_are_matched_and_unknown_ones_refused() -> None:
    student, _ = trained(loss="features", layers=("first:first", "second"), layer_weight=10)
    assert not same(student, net())
    with pytest.raises(InvalidInput, match=r"layers: got 'third', allowed: a student layer"):
        trained(loss="attention", layers=("third",))
    with pytest.raises(InvalidInput, match=r"layers: got 'nowhere', allowed: a teacher layer"):
        trained(loss="attention", layers=("first:nowhere",))


def test_answers_to_unchanged_images_are_computed_once() -> None:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    teacher = net(1)
    teacher.register_forward_hook(count)
    distill(net(), teacher, config(augmentation="none", epochs=3))
    assert calls == 1  # 256 images at once
    distill(net(), teacher, config(augmentation="none", temperature=2))
    assert calls == 1
    distill(net(), teacher, config(epochs=3))
    assert calls == 1 + 3 * 8


def test_the_teachers_pass_is_reported_and_can_be_stopped() -> None:
    stages: list[str] = []

    def stop(progress: Progress) -> None:
        stages.append(progress.stage)
        raise Cancelled

    with pytest.raises(Cancelled):
        distill(net(), net(1), config(stop, augmentation="none"))
    assert stages == ["Computing teacher logits"]


def test_fewer_images_are_the_first_ones() -> None:
    student, outcome = trained(images=128)
    less = net()
    few = TRAIN.head(128)
    distill(
        less, net(1), TrainingConfig(Distill(batch_size=32, learning_rate=0.05), few, accuracy, 3)
    )
    assert same(student, less) and outcome.curve.points[-1].step == 4


def test_mixup_blends_images_and_labels() -> None:
    plain, mixed = trained(alpha=0), trained(alpha=0, mixup=0.4)
    assert not same(plain[0], mixed[0])
    losses = [o.curve.points[-1].loss for _, o in (plain, mixed)]
    assert losses[0] is not None and losses[1] is not None and losses[1] > losses[0]


def test_l1_pulls_weights_to_zero() -> None:
    size = [
        sum(weight_of(m).abs().sum() for _, m in compressible(trained(l1=l1, alpha=0)[0]))
        for l1 in (0.0, 0.1)
    ]
    assert size[1] < 0.8 * size[0]


@pytest.mark.slow
def test_bfloat16_products_train_float32_weights() -> None:
    low, outcome = trained(precision="bfloat16", alpha=0, epochs=25)
    assert {p.dtype for p in low.parameters()} == {torch.float32}
    assert outcome.curve.points[-1].top1 is not None
    assert outcome.curve.points[-1].top1.value > 0.6
    assert not same(low, trained(alpha=0, epochs=25)[0])


def test_with_bfloat16_a_trained_depthwise_convolution_stays_in_float32() -> None:
    """Its gradient is that of float32 to the last bit; its outputs are rounded as others are."""
    generator = torch.Generator().manual_seed(0)
    # values that bfloat16 holds, so that only products can differ
    images, upstream = torch.randn(2, 4, 6, 8, 8, generator=generator).bfloat16().float()
    dense, deep = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=6)
    for layer in (dense, deep):
        outputs, gradients = [], []
        for dtype in (torch.float32, torch.bfloat16):
            with arithmetic("cpu", dtype):
                outputs.append(layer(images))
            (outputs[-1] * upstream).sum().backward()
            gradients.append(layer.weight.grad)
            layer.weight.grad = None
        assert [y.dtype for y in outputs] == [torch.float32, torch.bfloat16]
        assert torch.equal(gradients[0], gradients[1]) is (layer is deep)
        if layer is deep:
            assert torch.equal(outputs[0].bfloat16(), outputs[1])


# Optimizers and schedules


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", get_args(Optimizer))
@pytest.mark.parametrize("schedule", get_args(ScheduleName))
def test_every_optimizer_and_schedule_takes_steps_and_logs_its_rate(
    optimizer: str, schedule: str
) -> None:
    student, outcome = trained(
        optimizer=optimizer, schedule=schedule, learning_rate=0.003, warmup=0.25, alpha=0.5
    )
    step = Distill(schedule=schedule, learning_rate=0.003, warmup=0.25)  # type: ignore[arg-type]
    assert not same(student, net())
    rates = [p.learning_rate for p in outcome.curve.points[1:]]
    assert len(rates) == 8
    assert rates == pytest.approx([rate(step, t, 8) for t in range(8)], rel=1e-6)


def rate(step: Distill, t: int, steps: int, per_epoch: int = 8) -> float:
    """The formula of each schedule: the rate of step `t`, from 0."""
    top = step.learning_rate
    if step.schedule == "one-cycle":  # Smith and Topin, 2018, with cosine ramps
        up = 0.3 * steps - 1
        low, end = top / 25, top / 25 / 1e4
        if t <= up:
            return low + (top - low) * (1 - math.cos(math.pi * t / up)) / 2
        return end + (top - end) * (1 + math.cos(math.pi * (t - up) / (steps - 1 - up))) / 2
    warm = round(step.warmup * steps)
    if t < warm:
        return top * (0.01 + 0.99 * t / warm)
    t, steps = t - warm, steps - warm
    every = round(step.decay_epochs * per_epoch)
    if step.schedule == "step":
        return top * step.decay ** (t // every)
    if step.schedule == "exponential":
        return float(top * step.decay ** (t / every))
    if step.schedule == "cosine":
        return top * (1 + math.cos(math.pi * t / steps)) / 2
    return top  # constant; plateau that sees no stall


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(get_args(ScheduleName)),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.floats(0.05, 1.0),
    st.sampled_from([0.25, 1.0, 2.5]),
    st.integers(1, 5),
)
def test_rates_follow_their_formulas_over_several_epochs(
    schedule: Any, warmup: float, decay: float, decay_epochs: float, epochs: int
) -> None:
    per_epoch, steps = 16, 16 * epochs
    step = Distill(
        schedule=schedule, warmup=warmup, decay=decay, decay_epochs=decay_epochs, learning_rate=0.1
    )
    weight = nn.Parameter(torch.zeros(1))
    optimizer = make_optimizer([weight], [], step)
    made = Schedule(optimizer, step, steps, per_epoch)
    rates = []
    for _ in range(steps):
        rates.append(made.rate)
        optimizer.step()
        made.advance()
    wanted = [rate(step, t, steps, per_epoch) for t in range(steps)]
    assert rates == pytest.approx(wanted, rel=1e-6, abs=1e-9)


def test_the_registries_hold_all_that_a_recipe_can_ask_for() -> None:
    assert set(OPTIMIZERS) == set(get_args(Optimizer))
    assert set(SCHEDULES) == set(get_args(ScheduleName))


def test_adaptive_variants_are_torchs_own() -> None:
    weight = nn.Parameter(torch.ones(2))
    kinds = {
        n: type(make_optimizer([weight], [], Distill(optimizer=n))).__name__  # type: ignore[arg-type]
        for n in OPTIMIZERS
    }
    assert kinds == {
        "sgd": "SGD",
        "momentum": "SGD",
        "nesterov": "SGD",
        "adam": "Adam",
        "adamw": "AdamW",
        "rmsprop": "RMSprop",
        "adagrad": "Adagrad",
    }


@pytest.mark.parametrize(("optimizer", "decoupled"), [("sgd", False), ("adamw", True)])
def test_weight_decay_is_l2_or_decoupled(optimizer: Any, decoupled: bool) -> None:
    """Loshchilov and Hutter, 2019: decoupled decay shrinks by lr x decay whatever the gradient."""
    step = Distill(optimizer=optimizer, weight_decay=0.5, learning_rate=0.1)
    weight = nn.Parameter(torch.tensor([2.0]))
    weight.grad = torch.zeros(1)
    make_optimizer([weight], [], step).step()
    assert weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))
    scale = nn.Parameter(torch.tensor([2.0]))
    scale.grad = torch.zeros(1)
    make_optimizer([], [scale], step).step()
    assert scale.item() == 2.0  # grids do not decay
    assert decoupled == (optimizer == "adamw")


def validation(values: list[float]) -> Callable[[nn.Module], Interval]:
    """Validation that gives these accuracies, one after the other."""
    accuracies = itertools.chain(values, itertools.repeat(values[-1]))
    return lambda _: Interval(value=next(accuracies), low=0.0, high=1.0, n=10)


def test_plateau_lowers_the_rate_when_validation_stalls() -> None:
    stalled = validation([0.5, 0.6, 0.7, 0.7, 0.65, 0.7, 0.7])  # at steps 0, 4, 8, ...
    settings = {"schedule": "plateau", "patience": 1, "decay": 0.5, "epochs": 3}
    settings |= {"steps_between_checks": 4}
    _, outcome = trained(validate=stalled, **settings)
    rates = [p.learning_rate for p in outcome.curve.points[1:]]
    # two checks without a gain, at steps 12 and 16; then at 20 and 24
    assert rates == pytest.approx([0.05] * 16 + [0.025] * 8)
    _, outcome = trained(validate=validation([i / 10 for i in range(8)]), **settings)
    assert {p.learning_rate for p in outcome.curve.points} == {0.05}


def test_early_stopping_keeps_the_best_model() -> None:
    states: list[dict[str, Tensor]] = []
    values = validation([0.5, 0.6, 0.8, 0.7, 0.8, 0.9])

    def see(model: nn.Module) -> Interval:
        states.append(copy.deepcopy(model.state_dict()))
        return values(model)

    student, outcome = trained(validate=see, epochs=5, early_stopping=2, steps_between_checks=4)
    assert outcome.curve.points[-1].step == 16  # checks at 12 and 16 brought nothing
    assert all(torch.equal(v, states[2][k]) for k, v in student.state_dict().items())
    why = "after 2 of 5 epochs, as validation accuracy had not risen at the last 2 checks:"
    assert not outcome.stopped and why in outcome.notes[0]
    assert "from epoch 1" in outcome.notes[0]


# Reports, stops, checkpoints


def test_reports_say_all_and_every_point_comes_through() -> None:
    reports: list[Progress] = []
    _, outcome = trained(report=reports.append, epochs=2, report_seconds=0.0)
    assert [p.keeps for p in reports] == [False] + [True] * 16
    assert reports[-1].fraction == 1 and reports[-1].curve == outcome.curve
    assert [len(p.curve.points) for p in reports if p.curve] == list(range(1, 18))
    point = reports[-1].point
    assert point is not None and point.loss is not None and point.hard is not None
    assert point.soft is not None
    assert point.loss == pytest.approx(0.9 * point.soft + 0.1 * point.hard, rel=1e-5)
    assert all(p.point is not None and p.point.top1 is not None for p in reports)


@pytest.mark.slow
def test_long_trainings_keep_few_points() -> None:
    _, outcome = trained(epochs=40)
    most = TrainingConfig.points
    assert most / 2 <= len(outcome.curve.points) <= most + 2 * 40 + 1


def stop_at(step: int, reports: list[Progress]) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        reached = progress.point is not None and progress.point.step >= step
        if reached and (progress.keeps or not step):
            raise Cancelled("stop")
        reports.append(progress)

    return report


def test_stopping_keeps_the_best_so_far() -> None:
    reports: list[Progress] = []
    student, outcome = trained(report=stop_at(5, reports), epochs=4)
    assert outcome.stopped and outcome.curve.points[-1].step == 5
    assert reports[-1].curve == outcome.curve and not reports[-1].keeps  # the end of the curve too
    best = max(p.top1.value for p in outcome.curve.points if p.top1)
    assert accuracy(student).value == best
    assert outcome.notes[0].startswith("Stopped early after 0.625 of 4 epochs: the best model")


def test_stopping_before_the_first_step_is_cancelled() -> None:
    with pytest.raises(Cancelled):
        trained(report=stop_at(0, []))


VARIANTS: list[dict[str, Any]] = [
    {},
    {"optimizer": "adam", "schedule": "plateau", "learning_rate": 0.01, "patience": 0},
    {"optimizer": "rmsprop", "schedule": "one-cycle", "learning_rate": 0.003, "mixup": 0.3},
    {"optimizer": "adagrad", "schedule": "exponential", "loss": "features", "warmup": 0.3},
    {"schedule": "step", "grid": "learned", "l1": 1e-4, "early_stopping": 3},
    {"schedule": "cosine", "warmup": 0.2, "precision": "bfloat16", "augmentation": "none"},
]


@pytest.mark.slow
@pytest.mark.parametrize("values", VARIANTS)
@pytest.mark.parametrize("interrupted_at", [3, 8, 13])
def test_a_resumed_training_equals_the_uninterrupted_one_to_the_last_bit(
    values: dict[str, Any], interrupted_at: int, tmp_path: Path
) -> None:
    values = {**values, "epochs": 2, "checkpoint_seconds": 0.0, "steps_between_checks": 5}
    whole = parametrized()
    expected = distill(whole, net(1, 12), config(**values))

    class Killed(BaseException):
        """As a signal would: nothing catches it."""

    def die(progress: Progress) -> None:
        if progress.point is not None and progress.point.step >= interrupted_at:
            raise Killed

    path = tmp_path / "training.pt"
    with pytest.raises(Killed):
        distill(parametrized(), net(1, 12), config(die, checkpoint=path, **values))
    assert path.exists()
    again = parametrized()
    reports: list[Progress] = []
    outcome = distill(again, net(1, 12), config(reports.append, checkpoint=path, **values))
    assert same(again, whole)
    learning = [p for p in reports if p.stage != "Computing teacher logits"]
    assert learning[0].point is not None and learning[0].point.step == interrupted_at
    quiet = {"images_per_second": None}
    left, right = (
        [p.model_copy(update=quiet) for p in o.curve.points] for o in (outcome, expected)
    )
    assert left == right
    assert not path.exists()


@pytest.mark.parametrize(("writing", "expected"), [(0.0, 10.0), (0.3, 10.0), (2.0, 60.0)])
def test_checkpoints_take_at_most_a_thirtieth_of_the_time(writing: float, expected: float) -> None:
    assert checkpoint_interval(10.0, writing) == pytest.approx(expected)
    assert writing <= expected / 30 + 1e-9
    assert checkpoint_interval(0.0, writing) == 0.0


def test_a_damaged_checkpoint_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    path.write_bytes(b"nonsense")
    student, outcome = trained(checkpoint=path)
    assert same(student, trained()[0]) and outcome.curve.points[0].step == 0


def test_a_checkpoint_of_another_student_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "training.pt"
    trained(checkpoint=path, report=stop_at(4, []), checkpoint_seconds=0.0)
    assert path.exists()
    student = parametrized()
    distill(student, net(1), config(checkpoint=path))
    expected = parametrized()
    distill(expected, net(1), config())
    assert same(student, expected)


def test_a_loss_that_is_no_number_says_where_and_keeps_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    path = tmp_path / "training.pt"
    values = {"epochs": 100, "learning_rate": 1, "batchnorm": "frozen", "alpha": 0}
    with pytest.raises(
        CompressionError,
        match=r"the loss became (nan|inf) at step \d+ of 800 with learning rate ",
    ) as error:
        # without the norms to hold it, it runs away
        trained(checkpoint=path, checkpoint_seconds=0.0, **values)
    at = int(str(error.value).split("step ")[1].split()[0])
    state = torch.load(path, weights_only=True)
    assert 0 < state["taken"] < at
    assert all(bool(v.isfinite().all()) for v in state["student"].values())
