"""What a student is taught to make small. Pure functions of logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of the softened answers, times T squared (Hinton et al., 2015).

    Logits [n, classes] in, scalar out, in nats per image. The factor keeps the gradient's size
    the same whatever the temperature.
    """
    return temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )


def distillation_loss(
    student: Tensor, teacher: Tensor | None, labels: Tensor, temperature: float, alpha: float
) -> Tensor:
    """`alpha` times the soft loss plus `1 - alpha` times the cross-entropy with the labels.

    With alpha 0 the teacher is not needed and may be None.
    """
    if alpha == 0 or teacher is None:
        return F.cross_entropy(student, labels)
    soft = soft_loss(student, teacher, temperature)
    return soft if alpha == 1 else alpha * soft + (1 - alpha) * F.cross_entropy(student, labels)
