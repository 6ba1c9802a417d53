"""What is recorded while a student is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from compression.errors import CompressionError
from compression.runs.progress import Curve, Point
from compression.runs.statistics import Interval


@dataclass
class TrainingHistory:
    """The curve so far, and what has happened since its last point."""

    at: int
    epochs: int
    steps: int
    per_epoch: int
    batch: int
    device: str
    points: list[Point] = field(default_factory=list)
    top1: Interval | None = None
    _recent: list[tuple[Tensor, Tensor | None, Tensor | None, float]] = field(default_factory=list)
    _seconds: float = 0.0
    _checked: Interval | None = None

    def add(
        self, loss: Tensor, hard: Tensor | None, soft: Tensor | None, rate: float, seconds: float
    ) -> None:
        """One step: its loss and the parts of it, detached, its learning rate, its seconds."""
        self._recent.append((loss, hard, soft, rate))
        self._seconds += seconds

    def validated(self, top1: Interval) -> None:
        """A validation check gave this accuracy."""
        self.top1 = self._checked = top1

    def check(self, taken: int) -> list[float]:
        """The losses since the last point; `taken` steps were taken in all.

        Raises:
            CompressionError: one is no number; names the step and its learning rate.
        """
        if not self._recent:
            return []
        losses: list[float] = torch.stack([r[0] for r in self._recent]).tolist()
        first = taken - len(losses) + 1
        for at, value in enumerate(losses):
            if not math.isfinite(value):
                raise CompressionError(
                    f"distillation: the loss became {value} at step {first + at} of {self.steps} "
                    f"with learning rate {self._recent[at][3]:.3g}; try a lower learning_rate"
                )
        return losses

    def now(self, taken: int) -> Point | None:
        """The means since the last point, or that point where there was no step since.

        Raises:
            CompressionError: as `check`.
        """
        losses = self.check(taken)
        if not losses:
            last = self.points[-1] if self.points else None
            return last and last.model_copy(update={"top1": self.top1})
        return Point(
            step=taken,
            epoch=taken / self.per_epoch,
            loss=sum(losses) / len(losses),
            hard=self._mean(1),
            soft=self._mean(2),
            learning_rate=self._recent[-1][3],
            images_per_second=len(losses) * self.batch / max(self._seconds, 1e-9),
            top1=self.top1,
        )

    def _mean(self, part: int) -> float | None:
        parts = [r[part] for r in self._recent]
        values = [v for v in parts if isinstance(v, Tensor)]
        return float(torch.stack(values).mean()) if values else None

    def point(self, taken: int, rate: float) -> None:
        """End a stretch of the curve here, or add to the point that is there already; before the
        first step only accuracy is known."""
        if self._recent:
            point = self.now(taken)
            assert point is not None
        elif self.points and self.points[-1].step == taken:
            point = self.points.pop()
        else:
            point = Point(step=taken, epoch=taken / self.per_epoch, learning_rate=rate)
        self.points.append(point.model_copy(update={"top1": self._checked}))
        self._recent, self._seconds, self._checked = [], 0.0, None

    def curve(self) -> Curve:
        """All points so far."""
        return Curve(at=self.at, epochs=self.epochs, points=tuple(self.points), device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on, just after a step."""
        return {
            "points": [p.model_dump() for p in self.points],
            "top1": self.top1.model_dump() if self.top1 else None,
            "recent": self._recent,
            "seconds": self._seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.points = [Point.model_validate(p) for p in state["points"]]
        self.top1 = Interval.model_validate(state["top1"]) if state["top1"] else None
        self._recent, self._seconds = list(state["recent"]), state["seconds"]
