"""PyTorch's optimizers by name, with their settings as a `Distill` step has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from compression.recipe.steps import Distill

Groups = Iterable[dict[str, Any]]

# Fused, where PyTorch can: one pass over all weights, up to six times as fast as a pass for each
# operation and tensor.
OPTIMIZERS: dict[str, Callable[[Groups, Distill], Optimizer]] = {
    "sgd": lambda g, s: SGD(g, s.learning_rate, fused=True),
    "momentum": lambda g, s: SGD(g, s.learning_rate, s.momentum, fused=True),
    "nesterov": lambda g, s: SGD(
        g, s.learning_rate, s.momentum, nesterov=s.momentum > 0, fused=True
    ),
    "adam": lambda g, s: Adam(g, s.learning_rate, fused=True),
    "adamw": lambda g, s: AdamW(g, s.learning_rate, fused=True),
    "rmsprop": lambda g, s: RMSprop(g, s.learning_rate, momentum=s.momentum),
    "adagrad": lambda g, s: Adagrad(g, s.learning_rate, fused=True),
}


def make_optimizer(weights: list[Tensor], scales: list[Tensor], step: Distill) -> Optimizer:
    """The step's optimizer over weights, which decay, and scales of grids, which do not."""
    groups = [{"params": weights, "weight_decay": step.weight_decay}]
    if scales:
        groups.append({"params": scales, "weight_decay": 0.0})
    return OPTIMIZERS[step.optimizer](groups, step)
