"""The training of runs over epochs, as frozen values, and what to notice in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from compression.runs.progress import Curve, Point
from compression.runs.results import Run
from dashboard.numbers import format as fmt


@dataclass(frozen=True)
class ValidationCheck:
    """Accuracy on validation images, as a fraction, with its 95 % interval."""

    epoch: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StepTraining:
    """The training of one step of a recipe. Epochs count from the start of the run's training.

    `planned` is the epoch at which it was to end. `at` is the step's place in the recipe, from 0.
    """

    at: int
    start: float
    planned: float
    points: tuple[Point, ...]

    @property
    def end(self) -> float:
        """The epoch it has reached."""
        return self.points[-1].epoch if self.points else self.start


@dataclass(frozen=True)
class TrainingHistory:
    """All training of one run. `original` is the original's accuracy on the same images."""

    run_id: str
    label: str
    steps: tuple[StepTraining, ...]
    original: float | None
    stopped_early: bool = False

    @property
    def checks(self) -> tuple[ValidationCheck, ...]:
        """Every check on validation images, in order."""
        points = [p for step in self.steps for p in step.points]
        return tuple(
            ValidationCheck(p.epoch, p.top1.value, p.top1.low, p.top1.high)
            for p in points
            if p.top1
        )

    @property
    def best(self) -> ValidationCheck | None:
        """The check with the highest accuracy; None if there was none."""
        return max(self.checks, key=lambda check: check.value, default=None)

    @property
    def end(self) -> float:
        """The epoch that training has reached."""
        return self.steps[-1].end if self.steps else 0.0

    @property
    def planned(self) -> float:
        """The epoch at which training was to end."""
        return max((step.planned for step in self.steps), default=0.0)


def training_history(run: Run, curves: Sequence[Curve], label: str = "") -> TrainingHistory:
    """The training of one step after the other, on one axis of epochs."""
    steps: list[StepTraining] = []
    start = 0.0
    for curve in curves:
        points = [p.model_copy(update={"epoch": start + p.epoch}) for p in curve.points]
        steps.append(StepTraining(curve.at, start, start + curve.epochs, tuple(points)))
        start = steps[-1].end
    original = run.baseline.top1.value if run.baseline and run.baseline.top1 else None
    return TrainingHistory(run.id, label, tuple(steps), original, run.stopped_early)


# Of validation accuracy, the one before training included, to say whether it had stopped rising.
LEAST_CHECKS = 4
Value = Callable[[Point], float | None]


def series(history: TrainingHistory, value: Value) -> tuple[list[float], list[float | None]]:
    """Epochs and values, with a gap (None) between one step's training and the next."""
    x: list[float] = []
    y: list[float | None] = []
    for step in history.steps:
        known = [(p.epoch, v) for p in step.points if (v := value(p)) is not None]
        if x and known:
            x.append(step.start)
            y.append(None)
        x += [epoch for epoch, _ in known]
        y += [v for _, v in known]
    return x, y


def settled_after(checks: Sequence[ValidationCheck]) -> float | None:
    """The epoch of the first check whose interval holds all later values; None if the last."""
    for i, check in enumerate(checks[:-1]):
        if max(later.value for later in checks[i + 1 :]) <= check.high:
            return check.epoch
    return None


def notice(history: TrainingHistory) -> str:
    """What to notice; where a run was trained several times, in the last training."""
    times = len(history.steps)
    rise = _rise(replace(history, steps=history.steps[-1:]))
    if times > 1:
        count = "twice" if times == 2 else f"{times} times"
        rise = f"It was trained {count}. The last time, {rise[0].lower()}{rise[1:]}"
    return " ".join([rise, *_stopped(history), *_against_original(history)])


def _rise(history: TrainingHistory) -> str:
    checks, best = history.checks, history.best
    if best is None:
        return "Validation accuracy was not checked during training."
    first, last = checks[0], checks[-1]
    if len(checks) == 1:
        return f"Validation accuracy was {fmt.percent(first.value)} at epoch {first.epoch:.3g}."
    if best.value <= first.high:
        if last.value < first.low:
            ends = f"from {fmt.percent(first.value)} to {fmt.percent(last.value)}"
            return f"Validation accuracy fell {ends}."
        if best.value <= first.value:
            return f"Validation accuracy did not rise above {fmt.percent(first.value)}."
        ends = f"from {fmt.percent(first.value)}; its best was {fmt.percent(best.value)}"
        return f"Validation accuracy hardly moved {ends}, which may be chance."
    rose = f"rose from {fmt.percent(first.value)} to {fmt.percent(best.value)}"
    if len(checks) < LEAST_CHECKS:
        few = f"{len(checks)} checks are too few to tell whether it had stopped rising"
        return f"Validation accuracy {rose}; {few}."
    settled = settled_after(checks)
    if settled is None:
        return f"Validation accuracy {rose} and was still rising at the end."
    if settled == checks[-2].epoch:
        return f"Validation accuracy {rose}, but no longer clearly at the last check."
    return f"Validation accuracy {rose} and had stopped rising after epoch {round(settled, 1):g}."


def _stopped(history: TrainingHistory) -> list[str]:
    if not history.stopped_early or not history.steps:
        return []
    last = next((s for s in history.steps if s.end < s.planned), history.steps[-1])
    trained, planned = last.end - last.start, last.planned - last.start
    return [f"It was stopped at epoch {trained:.3g} of {planned:.3g}."]


def _against_original(history: TrainingHistory) -> list[str]:
    if history.original is None or history.best is None:
        return []
    return [f"The original has {fmt.percent(history.original)}."]


def comparison_notice(selected: TrainingHistory, others: Sequence[TrainingHistory]) -> str:
    """Which of the runs reached the highest accuracy, and whether that may be chance."""
    checked = [(run, best) for run in (selected, *others) if (best := run.best) is not None]
    if len(checked) < 2:
        return "Validation accuracy of the other runs was not checked during training."
    top, best = max(checked, key=lambda pair: pair[1].value)
    near = sum(check.value >= best.low for run, check in checked if run is not top)
    name = "this run" if top is selected else f"“{top.label}”"
    highest = (
        f"Of these {len(checked)} runs, {name} reached the highest accuracy, "
        f"{fmt.percent(best.value)}"
    )
    if near == 0:
        return f"{highest}; no other comes within its 95 % interval."
    several = "another is" if near == 1 else f"{near} others are"
    return f"{highest}; {several} within its 95 % interval, so that may be chance."
