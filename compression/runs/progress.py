"""How far a run is, and how its training goes."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import Field

from compression.runs.statistics import FrozenValue, Interval


class Point(FrozenValue):
    """One moment of training: means since the point before it.

    `epoch` counts passes over the images, `hard` and `soft` are the parts of the loss before they
    are weighted (cross-entropy with the labels, distance from the teacher), `top1` is there where
    the model was validated. Before the first step there is no loss.
    """

    step: int
    epoch: float
    learning_rate: float
    loss: float | None = None
    hard: float | None = None
    soft: float | None = None
    images_per_second: float | None = None
    top1: Interval | None = None


class Curve(FrozenValue):
    """How one step of a recipe trained. `at` is the step's place in the recipe, from 0."""

    at: int
    epochs: float
    points: tuple[Point, ...]
    device: str = ""


class Progress(FrozenValue):
    """How far work is: one stage of it as the engine reports it, the whole run as it is stored.

    `fraction` and `seconds_left` are of the stage until `WholeRun` makes them those of the whole
    run; `seconds_left` is None until it can be estimated. `at` is the place of the stage's step in
    the recipe, from 0. While it trains, `epochs` are all there will be, `point` is the latest
    moment and `curve` all of them so far, where new ones have come. `keeps` says that what there is
    so far can be kept if it is stopped now, `saved` that a checkpoint has just been written.
    """

    stage: str
    fraction: float
    seconds_left: float | None = None
    at: int | None = None
    epochs: int | None = None
    point: Point | None = None
    keeps: bool = False
    saved: bool = False
    curve: Curve | None = Field(default=None, exclude=True)

    @property
    def title(self) -> str:
        """The stage, and while it trains in which epoch: Training, epoch 2 of 5."""
        if self.point is None or self.epochs is None:
            return self.stage
        return f"{self.stage}, epoch {min(int(self.point.epoch) + 1, self.epochs)} of {self.epochs}"


Report = Callable[[Progress], None]


def stage(report: Report | None, name: str, at: int | None = None) -> Callable[[float], None]:
    """A function that reports the fraction done of a stage that begins now.

    Args:
        report: gets the progress.
        name: what the stage is called.
        at: the place of its step in the recipe, if it is one's.
    """
    started = time.perf_counter()

    def report_fraction(fraction: float) -> None:
        if report:
            spent = time.perf_counter() - started
            left = spent * (1 - fraction) / fraction if fraction > 0 and spent > 0.5 else None
            report(Progress(stage=name, fraction=fraction, seconds_left=left, at=at))

    report_fraction(0.0)
    return report_fraction
