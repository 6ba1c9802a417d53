"""The losses are their formulas: values by hand, gradients in float64, and their limits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compression.methods.distill.losses import (
    attention_loss,
    decoupled_loss,
    distillation_loss,
    feature_loss,
    hard_loss,
    logits_loss,
    soft_loss,
)
from compression.recipe.steps import Distill


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


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_mixes_the_two_losses_linearly(alpha: float) -> None:
    s, t = logits(0), logits(1)
    hard, soft = F.cross_entropy(s.float(), LABELS), soft_loss(s.float(), t, 3.0)
    mixed, *parts = distillation_loss(s, t, LABELS, Distill(temperature=3, alpha=alpha))
    assert torch.allclose(mixed.double(), alpha * soft.double() + (1 - alpha) * hard, rtol=1e-6)
    assert [p is None for p in parts] == [alpha == 1, alpha == 0]


def test_alpha_zero_needs_no_teacher() -> None:
    loss, hard, soft = distillation_loss(logits(0), None, LABELS, Distill(alpha=0))
    assert torch.equal(loss, F.cross_entropy(logits(0).float(), LABELS))
    assert hard is not None and soft is None


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_parts_make_the_soft_loss_again(temperature: float) -> None:
    """KD = TCKD + (1 - p) NCKD, image by image (Zhao et al., 2022, equation 7)."""
    s, t = logits(0), logits(1)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(s)):
        one = slice(i, i + 1)
        p = (t[i] / temperature).softmax(0)[LABELS[i]].item()
        total += decoupled_loss(s[one], t[one], LABELS[one], temperature, 1 - p) / len(s)
    assert torch.allclose(total, soft_loss(s, t, temperature), rtol=1e-6)


@pytest.mark.parametrize("other_classes", [0.0, 1.0, 8.0])
def test_gradient_of_the_decoupled_loss(other_classes: float) -> None:
    s, t = logits(0).requires_grad_(), logits(1)
    assert torch.autograd.gradcheck(
        lambda x: decoupled_loss(x, t, LABELS, 4.0, other_classes), (s,)
    )
    assert decoupled_loss(t, t, LABELS, 4.0, other_classes).abs() < 1e-12


def test_other_classes_count_linearly() -> None:
    s, t = logits(0), logits(1)
    none, one, eight = (decoupled_loss(s, t, LABELS, 2.0, w) for w in (0.0, 1.0, 8.0))
    assert torch.allclose(eight - none, 8 * (one - none), rtol=1e-9)


def test_raw_answers_are_matched_up_to_a_constant() -> None:
    s, t = logits(0).requires_grad_(), logits(1)
    assert torch.autograd.gradcheck(lambda x: logits_loss(x, t), (s,))
    assert logits_loss(t + 3.0, t).abs() < 1e-12
    d = (s - s.mean(1, keepdim=True)) - (t - t.mean(1, keepdim=True))
    assert torch.allclose(logits_loss(s, t), 0.5 * (d**2).sum() / len(s))


def test_soft_loss_becomes_that_of_raw_answers_at_high_temperature() -> None:
    """Hinton et al., 2015, section 2.1: T² KL tends to half the squared distance per class."""
    s, t = logits(0), logits(1)
    assert torch.allclose(soft_loss(s, t, 1000.0), logits_loss(s, t) / s.shape[1], rtol=1e-2)


def test_logits_read_no_label() -> None:
    step = Distill(loss="logits", alpha=0.5)
    s, t = logits(0), logits(1)
    first, hard, soft = distillation_loss(s, t, LABELS, step)
    other, *_ = distillation_loss(s, t, LABELS.flip(0), step)
    assert torch.equal(first, other) and hard is None and soft is not None


def test_label_smoothing_spreads_that_share_over_all_classes() -> None:
    s, smoothing = logits(0), 0.1
    shares = torch.full((7, 5), smoothing / 5, dtype=torch.float64)
    shares[torch.arange(7), LABELS] += 1 - smoothing
    expected = -(shares * s.log_softmax(1)).sum(1).mean()
    assert torch.allclose(hard_loss(s, LABELS, smoothing), expected)


def maps(seed: int, channels: int = 4, side: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, channels, side, side, generator=generator)


def test_attention_is_where_not_how_much_and_never_above_two() -> None:
    one = maps(0)
    assert attention_loss(5 * one, one) < 1e-9  # scale says nothing of where
    assert 0 < attention_loss(maps(1), one) <= 2
    assert 0 < attention_loss(maps(1, channels=9, side=12), one) <= 2  # other widths and sizes


def test_features_are_measured_in_units_of_the_teachers_mean_square() -> None:
    one = maps(0)
    assert feature_loss(one, one) == 0
    assert torch.allclose(feature_loss(torch.zeros_like(one), one), torch.tensor(0.5))
    assert torch.allclose(feature_loss(10 * maps(1), 10 * one), feature_loss(maps(1), one))
