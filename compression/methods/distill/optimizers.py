"""PyTorch's optimizers and learning-rate schedules by name, with the settings of a `Distill` step.

A schedule is stepped once for every batch, `plateau` by validation accuracy instead. A warm-up
comes before any but one-cycle, which has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

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


WARM_FROM = 0.01

# Each is made for so many steps, of which `every` make the epochs of `decay_epochs`.
SCHEDULES: dict[str, Callable[[Optimizer, Distill, int, int], LRScheduler]] = {
    "constant": lambda o, _, steps, __: ConstantLR(o, 1.0, steps),
    "step": lambda o, s, _, every: StepLR(o, every, s.decay),
    "exponential": lambda o, s, _, every: ExponentialLR(o, s.decay ** (1 / every)),
    "cosine": lambda o, _, steps, __: CosineAnnealingLR(o, steps),
    # the momentum stays what the step says
    "one-cycle": lambda o, s, steps, _: OneCycleLR(
        o, s.learning_rate, max(2, steps), cycle_momentum=False
    ),
    "plateau": lambda o, s, steps, _: (
        ReduceLROnPlateau(o, "max", s.decay, s.patience, threshold=0.0)
        if s.decay < 1
        else ConstantLR(o, 1.0, steps)
    ),
}


class Schedule:
    """Sets the learning rate of an optimizer over `steps` steps, `per_epoch` to an epoch."""

    def __init__(self, optimizer: Optimizer, step: Distill, steps: int, per_epoch: int) -> None:
        self.optimizer = optimizer
        self.warm = 0 if step.schedule == "one-cycle" else round(step.warmup * steps)
        every = max(1, round(step.decay_epochs * per_epoch))
        self.main = SCHEDULES[step.schedule](optimizer, step, max(1, steps - self.warm), every)
        self.rise = LinearLR(optimizer, WARM_FROM, 1.0, self.warm) if self.warm else None
        self.taken = 0

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def advance(self) -> None:
        """A step has been taken."""
        self.taken += 1
        if self.rise is not None and self.taken <= self.warm:
            self.rise.step()
        elif not isinstance(self.main, ReduceLROnPlateau):
            self.main.step()

    def validated(self, top1: float) -> None:
        """A validation check gave this accuracy: plateau goes by that."""
        if isinstance(self.main, ReduceLROnPlateau) and self.taken > self.warm:
            self.main.step(top1)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""
        rise = self.rise.state_dict() if self.rise else None
        return {"main": self.main.state_dict(), "rise": rise, "taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.main.load_state_dict(state["main"])
        if self.rise is not None:
            self.rise.load_state_dict(state["rise"])
        self.taken = state["taken"]
