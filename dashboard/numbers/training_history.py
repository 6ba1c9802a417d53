"""How runs learned, as frozen values, and what to notice in them. No Streamlit and no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from compression.runs.progress import Curve, Point
from compression.runs.results import Run
from dashboard.numbers import format as fmt


@dataclass(frozen=True)
class Look:
    """Accuracy on validation images, as a fraction, with its 95 % interval."""

    epoch: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Stretch:
    """The training of one step of a recipe. Epochs count from the start of the run's training.

    `planned` is where it was to end. `at` is the step's place in the recipe, from 0.
    """

    at: int
    start: float
    planned: float
    points: tuple[Point, ...]

    @property
    def end(self) -> float:
        return self.points[-1].epoch if self.points else self.start


@dataclass(frozen=True)
class Learning:
    """How one run learned. `original` is the original's accuracy on the same images."""

    run_id: str
    label: str
    stretches: tuple[Stretch, ...]
    original: float | None
    stopped_early: bool = False

    @property
    def looks(self) -> tuple[Look, ...]:
        points = [p for stretch in self.stretches for p in stretch.points]
        return tuple(Look(p.epoch, p.top1.value, p.top1.low, p.top1.high) for p in points if p.top1)

    @property
    def best(self) -> Look | None:
        return max(self.looks, key=lambda look: look.value, default=None)

    @property
    def end(self) -> float:
        return self.stretches[-1].end if self.stretches else 0.0

    @property
    def planned(self) -> float:
        return max((stretch.planned for stretch in self.stretches), default=0.0)


def learning(run: Run, curves: Sequence[Curve], label: str = "") -> Learning:
    """One step's training after the other, on one axis of epochs."""
    stretches: list[Stretch] = []
    start = 0.0
    for curve in curves:
        points = [p.model_copy(update={"epoch": start + p.epoch}) for p in curve.points]
        stretches.append(Stretch(curve.at, start, start + curve.epochs, tuple(points)))
        start = stretches[-1].end
    original = run.baseline.top1.value if run.baseline and run.baseline.top1 else None
    return Learning(run.id, label, tuple(stretches), original, run.stopped_early)


Value = Callable[[Point], float | None]


def series(numbers: Learning, value: Value) -> tuple[list[float], list[float | None]]:
    """Epochs and values, with a gap between one step's training and the next."""
    x: list[float] = []
    y: list[float | None] = []
    for stretch in numbers.stretches:
        known = [(p.epoch, found) for p in stretch.points if (found := value(p)) is not None]
        if x and known:
            x.append(stretch.start)
            y.append(None)
        x += [epoch for epoch, _ in known]
        y += [found for _, found in known]
    return x, y


def settled_after(looks: Sequence[Look]) -> float | None:
    """The epoch of the first look whose interval holds all that came later; None if the last."""
    for i, look in enumerate(looks[:-1]):
        if max(later.value for later in looks[i + 1 :]) <= look.high:
            return look.epoch
    return None


def notice(numbers: Learning) -> str:
    """What to notice, from the numbers; of several trainings of a run, in the last one."""
    times = len(numbers.stretches)
    rise = _rise(replace(numbers, stretches=numbers.stretches[-1:]))
    if times > 1:
        taught = "twice" if times == 2 else f"{times} times"
        rise = f"It was taught {taught}. The last time, {rise[0].lower()}{rise[1:]}"
    return " ".join([rise, *_stopped(numbers), *_against(numbers)])


def _rise(numbers: Learning) -> str:
    looks, best = numbers.looks, numbers.best
    if best is None:
        return "Validation images were not looked at while it learned."
    first, last = looks[0], looks[-1]
    if len(looks) == 1:
        return f"Validation accuracy was {fmt.percent(first.value)} at epoch {first.epoch:.3g}."
    if best.value <= first.high:
        if last.value < first.low:
            fell = f"from {fmt.percent(first.value)} to {fmt.percent(last.value)}"
            return f"Validation accuracy fell {fell}."
        if best.value <= first.value:
            return f"Validation accuracy did not rise above {fmt.percent(first.value)}."
        held = f"from {fmt.percent(first.value)}; its best was {fmt.percent(best.value)}"
        return f"Validation accuracy hardly moved {held}, which may be chance."
    said = f"rose from {fmt.percent(first.value)} to {fmt.percent(best.value)}"
    settled = settled_after(looks)
    if settled is None:
        return f"Validation accuracy {said} and was still rising at the end."
    return f"Validation accuracy {said} and had stopped rising after epoch {round(settled, 1):g}."


def _stopped(numbers: Learning) -> list[str]:
    if not numbers.stopped_early or not numbers.stretches:
        return []
    last = next((s for s in numbers.stretches if s.end < s.planned), numbers.stretches[-1])
    trained, planned = last.end - last.start, last.planned - last.start
    return [f"It was stopped at epoch {trained:.3g} of {planned:.3g}."]


def _against(numbers: Learning) -> list[str]:
    if numbers.original is None or numbers.best is None:
        return []
    return [f"The original has {fmt.percent(numbers.original)}."]


def compared(own: Learning, others: Sequence[Learning]) -> str:
    """Which of the runs got furthest, and whether that may be chance."""
    looked = [(run, best) for run in (own, *others) if (best := run.best) is not None]
    if len(looked) < 2:
        return "The other runs were not looked at while they learned."
    top, best = max(looked, key=lambda pair: pair[1].value)
    near = sum(look.value >= best.low for run, look in looked if run is not top)
    name = "this run" if top is own else f"“{top.label}”"
    said = f"Of these {len(looked)} runs, {name} got highest, {fmt.percent(best.value)} at its best"
    if near == 0:
        return f"{said}; no other comes within its 95 % interval."
    several = "another is" if near == 1 else f"{near} others are"
    return f"{said}; {several} within its 95 % interval, so that may be chance."
