"""PyTorch's learning-rate schedules by name, stepped once for every batch.

`plateau` is stepped by validation accuracy instead. A warm-up comes before any but one-cycle, which
has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
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

    def look(self, top1: float) -> None:
        """Validation has been looked at: plateau goes by that."""
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
