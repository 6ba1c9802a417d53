"""Validation checks while a student is trained, and the best model so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from compression.methods.calibration.batchnorm import estimate_batchnorm
from compression.runs.statistics import Interval


@dataclass(frozen=True)
class Best:
    """The best model so far by validation accuracy, and the epoch it is from."""

    top1: Interval
    epoch: float
    weights: dict[str, Tensor]


class BestModelTracker:
    """Checks validation accuracy, counts checks without a gain, and remembers the best model.

    Args:
        validate: gives the validation accuracy of a model.
        calibration: batches of prepared images [n, c, h, w]; before every check but the first,
            statistics of batch normalisation are estimated from them, if given.
        patience: checks without a gain after which training has stalled; None for never.
    """

    def __init__(
        self,
        validate: Callable[[nn.Module], Interval],
        calibration: Sequence[Tensor] | None,
        patience: int | None,
    ) -> None:
        self._validate, self._calibration, self._patience = validate, calibration, patience
        self.best: Best | None = None
        self.checks_without_gain = 0

    def validate(self, student: nn.Module, epoch: float) -> Interval:
        """The validation accuracy of the student as it is now."""
        if self.best is not None and self._calibration is not None:
            estimate_batchnorm(student.eval(), self._calibration)
        top1 = self._validate(student)
        if self.best is None or top1.value > self.best.top1.value:
            weights = {k: v.detach().clone() for k, v in student.state_dict().items()}
            self.best, self.checks_without_gain = Best(top1, epoch, weights), 0
        else:
            self.checks_without_gain += 1
        return top1

    @property
    def stalled(self) -> bool:
        """Whether there were as many checks without a gain as early stopping waits for."""
        return self._patience is not None and self.checks_without_gain >= self._patience

    def go_back(self, student: nn.Module, *, stopped: bool, progress: str) -> str:
        """Make the student the best one so far; a sentence on it, with how far training was."""
        assert self.best is not None
        student.load_state_dict(self.best.weights)
        count = self.checks_without_gain
        checks = f"{count} checks" if count > 1 else "check"
        why = "" if stopped else f", as validation accuracy had not risen at the last {checks}"
        return (
            f"Stopped early after {progress}{why}: the best model so far was kept, from epoch "
            f"{self.best.epoch:.3g}."
        )

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""
        assert self.best is not None
        best = (self.best.top1.model_dump(), self.best.epoch, self.best.weights)
        return {"best": best, "checks_without_gain": self.checks_without_gain}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        top1, epoch, weights = state["best"]
        self.best = Best(Interval.model_validate(top1), epoch, weights)
        self.checks_without_gain = state["checks_without_gain"]
