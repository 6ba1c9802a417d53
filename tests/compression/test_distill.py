"""The distillation loss is the formula, and training respects masks, grids and its seed."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compression.data import Split
from compression.distill.loop import distill
from compression.distill.losses import distillation_loss, soft_loss
from compression.errors import Cancelled, CompressionError
from compression.layers import Grid, hold, weight_of
from compression.models import build
from compression.quantize.affine import minmax


def logits(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(7, 5, generator=generator, dtype=torch.float64)


LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_soft_loss_is_t_squared_times_the_mean_divergence(temperature: float) -> None:
    s, t = logits(0), logits(1)
    p, q = (t / temperature).softmax(1), (s / temperature).softmax(1)
    expected = temperature**2 * (p * (p.log() - q.log())).sum(1).mean()
    assert torch.allclose(soft_loss(s, t, temperature), expected, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.7, 4.0])
def test_gradient_of_the_soft_loss(temperature: float) -> None:
    s, t = logits(0).requires_grad_(), logits(1)
    soft_loss(s, t, temperature).backward()
    expected = temperature * ((s / temperature).softmax(1) - (t / temperature).softmax(1)) / len(s)
    assert s.grad is not None and torch.allclose(s.grad, expected, rtol=1e-9, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: soft_loss(x, t, temperature), (s,))


def test_soft_loss_is_zero_for_equal_answers_and_positive_otherwise() -> None:
    assert soft_loss(logits(0), logits(0), 4.0).abs() < 1e-12
    assert soft_loss(logits(0), logits(1), 4.0) > 0


def test_alpha_mixes_the_two_losses_linearly() -> None:
    s, t = logits(0), logits(1)
    hard, soft = F.cross_entropy(s, LABELS), soft_loss(s, t, 3.0)
    for alpha in (0.0, 0.3, 1.0):
        mixed = distillation_loss(s, t, LABELS, 3.0, alpha)
        assert torch.allclose(mixed, alpha * soft + (1 - alpha) * hard, rtol=1e-12)


def test_alpha_zero_needs_no_teacher() -> None:
    loss = distillation_loss(logits(0), None, LABELS, 3.0, 0.0)
    assert torch.equal(loss, F.cross_entropy(logits(0), LABELS))


def images(n: int = 256) -> Split:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return Split("train", pixels, torch.arange(n) % 10)


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build("squeezenet1_1", 10)


SETTINGS = {"temperature": 4.0, "alpha": 0.9, "epochs": 1, "learning_rate": 0.01, "seed": 3}


def test_same_seed_same_weights_and_another_seed_others() -> None:
    students = [small() for _ in range(3)]
    for student, seed in zip(students, (3, 3, 4), strict=True):
        distill(student, small(1), images(), **(SETTINGS | {"seed": seed}))  # type: ignore[arg-type]
    first, again, other = (s.state_dict()["features.0.weight"] for s in students)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    teacher, student = small(1), small()
    torch.set_rng_state(before)
    distill(student, teacher, images(), **SETTINGS)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)


def test_masks_and_grids_hold_bit_by_bit_while_weights_move() -> None:
    student = small()
    layer = student.get_submodule("features.3.squeeze")
    weight = weight_of(layer)
    mask = weight.abs() > weight.abs().median()
    grid: Grid = minmax(weight, 8, True, True)
    hold(layer, mask, grid)
    before = copy.deepcopy(weight_of(layer))
    distill(student, small(1), images(), **(SETTINGS | {"learning_rate": 0.3}))  # type: ignore[arg-type]
    after = weight_of(layer)
    assert bool((after[~mask] == 0).all())
    assert torch.equal(grid.decode(grid.encode(after)), after)
    assert not torch.equal(before, after)


def test_the_teacher_is_not_changed() -> None:
    teacher = small(1)
    before = copy.deepcopy(teacher.state_dict())
    distill(small(), teacher, images(), **SETTINGS)  # type: ignore[arg-type]
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())


def test_a_loss_that_is_no_number_says_where_and_at_which_rate() -> None:
    student = small()
    with torch.no_grad():
        student.get_submodule("features.0").weight.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(CompressionError, match=r"nan at step 1 of 2 with learning rate 0.01"):
        distill(student, small(1), images(), **SETTINGS)  # type: ignore[arg-type]


def test_it_stops_when_the_report_says_so_and_reports_every_step() -> None:
    told: list[float] = []

    def report(fraction: float) -> None:
        told.append(fraction)
        if fraction >= 0.5:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        distill(small(), small(1), images(), report=report, **SETTINGS)  # type: ignore[arg-type]
    assert told == [0.5]
