"""Losses that a student is trained by. Pure functions of logits and of layers' outputs."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from compression.recipe.steps import Distill


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of the softened outputs, times T squared (Hinton et al., 2015).

    Logits [n, classes] in, scalar out, in nats per image. The factor keeps the gradient's size
    the same whatever the temperature.
    """
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )


def decoupled_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, other_classes: float
) -> Tensor:
    """`soft_loss` taken apart: the right class against the rest, and the rest among themselves.

    Decoupled knowledge distillation (Zhao et al., 2022). Logits [n, classes], labels [n]. With
    a weight `other_classes` of 1 - p (p: the teacher's softened share of the right class, image by
    image) it would be `soft_loss` again; a constant weight lets confident predictions count as much
    as unsure ones.
    """
    s, t = (F.log_softmax(x / temperature, 1) for x in (student, teacher))
    right = F.one_hot(labels, s.shape[1]).bool()
    target = _binary_divergence(s[right], t[right])
    # without the right class the rest is a distribution of its own
    s, t = (F.log_softmax(x[~right].view(len(x), -1) / temperature, 1) for x in (student, teacher))
    others = F.kl_div(s, t, reduction="batchmean", log_target=True)
    return temperature**2 * (target + other_classes * others)


def _binary_divergence(s: Tensor, t: Tensor) -> Tensor:
    """Mean KL divergence of (q, 1 - q) from (p, 1 - p), given log q and log p."""
    rest_s, rest_t = ((-x.exp().clamp(max=1 - 1e-7)).log1p() for x in (s, t))
    return (t.exp() * (t - s) + rest_t.exp() * (rest_t - rest_s)).mean()


def logits_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of the raw logits, per image; no label is read.

    Ba and Caruana (2014). Logits [n, classes]; the logits' mean, which changes no prediction, is
    left out of it.
    """
    s, t = (x - x.mean(1, keepdim=True) for x in (student, teacher))
    return 0.5 * (s - t).square().sum(1).mean()


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of the normalised maps of where two layers look (Zagoruyko and Komodakis,
    2017). Outputs [n, channels, h, w], whose channels and sizes may differ; from 0 to 2."""
    s, t = (_attention(x) for x in _alike(student, teacher))
    return (s - t).square().sum(1).mean()


def _attention(outputs: Tensor) -> Tensor:
    return F.normalize(outputs.float().square().mean(1).flatten(1))


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of two layers' outputs [n, channels, h, w] (FitNets, Romero
    et al., 2015), in units of the teacher's mean square."""
    s, t = _alike(student.float(), teacher.float())
    return 0.5 * (s - t).square().mean() / t.square().mean().clamp(min=1e-12)


def _alike(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both at the smaller one's height and width."""
    (h, w), (high, wide) = student.shape[2:], teacher.shape[2:]
    size = (min(h, high), min(w, wide))
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


LAYER_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "attention": attention_loss,
    "features": feature_loss,
}


def hard_loss(student: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the labels, [n] or as shares [n, classes], in nats per image."""
    return F.cross_entropy(student, labels, label_smoothing=smoothing)


def distillation_loss(
    student: Tensor, teacher: Tensor | None, labels: Tensor, step: Distill
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss on logits, and its hard and soft parts where they take part.

    `alpha` times the soft part plus `1 - alpha` times the hard one; with loss `logits` the soft
    part alone. Where alpha is 0 the teacher is not needed and may be None.
    """
    student = student.float()
    if step.loss == "logits":
        assert teacher is not None
        soft = logits_loss(student, teacher)
        return soft, None, soft
    hard = hard_loss(student, labels, step.label_smoothing) if step.alpha < 1 else None
    if step.alpha == 0 or teacher is None:
        assert hard is not None
        return hard, hard, None
    if step.loss == "dkd":
        soft = decoupled_loss(student, teacher, labels, step.temperature, step.other_classes)
    else:
        soft = soft_loss(student, teacher, step.temperature)
    if hard is None:
        return soft, None, soft
    return step.alpha * soft + (1 - step.alpha) * hard, hard, soft
