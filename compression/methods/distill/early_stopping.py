"""Who looks at validation while a student is taught, and keeps the best model so far."""

from __future__ import annotations

from collections.abc import Callable
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
    state: dict[str, Tensor]


class BestModelTracker:
    """Looks at validation, counts looks without a gain, and remembers the best model.

    Before every look but the first, statistics of batch normalisation are taken anew from
    `calibration`, if that is given.
    """

    def __init__(
        self,
        look: Callable[[nn.Module], Interval],
        calibration: Tensor | None,
        patience: int | None,
    ) -> None:
        self._look, self._calibration, self._patience = look, calibration, patience
        self.best: Best | None = None
        self.stale = 0

    def look(self, student: nn.Module, epoch: float) -> Interval:
        """The validation accuracy of the student as it is now."""
        if self.best is not None and self._calibration is not None:
            estimate_batchnorm(student.eval(), self._calibration)
        found = self._look(student)
        if self.best is None or found.value > self.best.top1.value:
            state = {k: v.detach().clone() for k, v in student.state_dict().items()}
            self.best, self.stale = Best(found, epoch, state), 0
        else:
            self.stale += 1
        return found

    @property
    def stalled(self) -> bool:
        """Whether there were as many looks without a gain as early stopping waits for."""
        return self._patience is not None and self.stale >= self._patience

    def go_back(self, student: nn.Module, *, stopped: bool, done: str) -> str:
        """Make the student the best one so far; what to say of it, after `done`."""
        assert self.best is not None
        student.load_state_dict(self.best.state)
        return (
            f"{'Stopped early' if stopped else 'Validation accuracy had stopped rising'} after "
            f"{done}: the best model so far was kept, from epoch {self.best.epoch:.3g}."
        )

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        assert self.best is not None
        best = (self.best.top1.model_dump(), self.best.epoch, self.best.state)
        return {"best": best, "stale": self.stale}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        top1, epoch, best = state["best"]
        self.best, self.stale = Best(Interval.model_validate(top1), epoch, best), state["stale"]
