"""What a training goes by beside its two models, and how it went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from compression.data.splits import Split
from compression.recipe.steps import Distill
from compression.runs.progress import Curve, Progress
from compression.runs.statistics import Interval


@dataclass(frozen=True)
class TrainingConfig:
    """The settings of one training, beside student and teacher.

    Before every validation check the statistics of live batch normalisation are estimated from
    `calibration`: a running mean lags behind weights that jump from one code to the next (Nagel et
    al., 2022), and where pruning left a channel constant, its variance is nothing and any lag is
    amplified three hundred times.

    Attributes:
        step: the settings of the recipe's step.
        train: the training images.
        validate: gives the validation accuracy of a model.
        seed: all randomness comes from it.
        calibration: batches of prepared images [n, c, h, w] on the device, or None to leave
            statistics alone.
        device: `cpu` or `cuda`.
        at: the step's place in the recipe.
        report: gets the progress, and may raise `Cancelled`.
        checkpoint: the file that keeps the training as it stands.
        checks_per_epoch: validation checks in an epoch, at most.
        steps_between_checks: at least so many steps; a check costs as much as many of them.
        points: points of the curve, about.
        report_seconds: time between reports, at least.
        checkpoint_seconds: time between checkpoints, at least; in proportion longer where writing
            one takes more than a third of a second.
    """

    step: Distill
    train: Split
    validate: Callable[[nn.Module], Interval]
    seed: int
    calibration: Sequence[Tensor] | None = None
    device: str = "cpu"
    at: int = 0
    report: Callable[[Progress], None] | None = None
    checkpoint: Path | None = None
    checks_per_epoch: int = 2
    steps_between_checks: int = 40
    points: int = 120
    report_seconds: float = 0.5
    checkpoint_seconds: float = 10.0


@dataclass(frozen=True)
class Outcome:
    """How a training went: its curve, what there is to say, whether somebody stopped it."""

    curve: Curve
    notes: tuple[str, ...]
    stopped: bool
