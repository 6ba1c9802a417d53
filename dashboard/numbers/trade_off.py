"""All runs of a model on two measures: the points, the Pareto front, what to notice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from compression.runs.results import Run, State
from dashboard.numbers import format as fmt
from dashboard.numbers.measures import MEASURES, Measure
from dashboard.state.url import ORIGINAL as ORIGINAL

CLOSE = 0.01  # one percentage point
COLLAPSED = -0.1  # a model that has lost more than this is of no use to anybody
_SPREAD = 8.0
# What a chart has room for where the window is narrow: its width and height in letters and lines.
_LETTERS, _LINES = 58.0, 16.0
# Of the width: beside the worst point, and beside the best, where the names of the best runs go.
_BEFORE, _AFTER = 0.05, 0.2

Box = tuple[float, float, float, float]
# Where a name stands beside its point; the first one that is free is taken.
Side = Literal["top right", "top left", "bottom right", "bottom left"]
_SIDES: tuple[Side, ...] = get_args(Side)
ORIGINAL_SIDE: Side = "bottom right"


@dataclass(frozen=True)
class Point:
    """One run, or the original, in the base units of the chart's measures. `colour` is the
    measure's neutral value where the run's interval does not tell it from that, or the machine was
    busy; `disturbed` says so of where the point lies."""

    run_id: str
    name: str
    label: str
    x: float
    y: float
    x_bounds: tuple[float, float] | None
    y_bounds: tuple[float, float] | None
    colour: float | None
    disturbed: bool = False


@dataclass(frozen=True)
class TradeOff:
    """Runs of one model on two measures. `front` holds what nothing else beats on both."""

    x: Measure
    y: Measure
    colour: Measure
    points: tuple[Point, ...]
    original: Point | None
    front: tuple[Point, ...]
    left_out: int

    @property
    def title(self) -> str:
        return f"{self.y.title} against {self.x.title.lower()}"

    @property
    def everything(self) -> tuple[Point, ...]:
        """The runs and the original."""
        return (*self.points, self.original) if self.original else self.points

    @cached_property
    def floor(self) -> float | None:
        """Where the y axis ends although runs lie below: what collapsed would press all others
        together. None where nothing did, or everything."""
        if self.y.name != "change":
            return None
        kept = [p.y for p in self.points if p.y >= COLLAPSED]
        if not kept or len(kept) == len(self.points):
            return None
        return min(1.5 * min(kept), -2 * CLOSE)

    def collapsed(self, point: Point) -> bool:
        """Whether a point lies below the floor."""
        return self.floor is not None and point.y < self.floor

    @property
    def shown(self) -> tuple[Point, ...]:
        """The runs that did not collapse."""
        return tuple(p for p in self.points if not self.collapsed(p))

    def drawn_y(self, point: Point) -> float:
        """Where a point is drawn: what collapsed, at the floor."""
        return point.y if self.floor is None else max(point.y, self.floor)

    @property
    def coloured(self) -> bool:
        """Whether every run that is drawn has the third measure, and they differ in it."""
        values = [p.colour for p in self.shown]
        return None not in values and len(set(values)) > 1

    @cached_property
    def labels(self) -> dict[Point, Side]:
        """Runs of the front whose names can be written beside them, and on which side: the best
        within a point first, then both ends, then what lies between. No name covers another one,
        and no name but the first covers a point or its interval."""
        runs = [p for p in self.front if p.run_id and not self.collapsed(p)]
        close = [p for p in runs if self.y.name == "change" and p.y >= -CLOSE]
        taken = [self.label_box(self.original, ORIGINAL_SIDE)] if self.original else []
        labels: dict[Point, Side] = {}
        for point in dict.fromkeys([*close[:1], *runs[:1], *runs[-1:], *runs]):
            dots = [box for p in self.shown if p != point for box in self._marks(p)]
            sides = [s for s in _SIDES if self._has_room(self.label_box(point, s))]
            free = (s for s in sides if not _covers(self.label_box(point, s), [*taken, *dots]))
            side = next(free, None if labels else sides[0] if sides else "top left")
            if side is not None and not _covers(self.label_box(point, side), taken):
                labels[point] = side
                taken.append(self.label_box(point, side))
        return labels

    @staticmethod
    def _has_room(name: Box) -> bool:
        """Whether a name ends before the right edge and above the axis."""
        return name[1] <= _LETTERS and name[2] >= 0

    @property
    def x_range(self) -> tuple[float, float]:
        """The ends of the x axis, in the unit of the measure: room for names beside the best."""
        values = [p.x for p in self.everything]
        least, largest = min(values), max(values)
        room = 1 - _BEFORE - _AFTER
        if logarithmic(self.x, values):
            span = math.log(largest / least) / room
            return least * math.exp(-_BEFORE * span), largest * math.exp(_AFTER * span)
        span = (largest - least or abs(largest) or 1.0) / room
        return least - _BEFORE * span, largest + _AFTER * span

    def _position(self, x: float, y: float) -> tuple[float, float]:
        """Where these figures lie, in letters from the left and in lines from the bottom."""
        across = _share(x, [p.x for p in self.everything], self.x)
        drawn = [self.drawn_y(p) for p in self.everything]
        up = _share(y, drawn, self.y)
        return _LETTERS * (_BEFORE + (1 - _BEFORE - _AFTER) * across), _LINES * up

    def label_box(self, point: Point, side: Side) -> Box:
        """Left, right, bottom and top of a point's name, in letters and lines."""
        x, y = self._position(point.x, self.drawn_y(point))
        width = len(point.name) + 2.0
        left, right = (x - width, x) if "left" in side else (x, x + width)
        bottom = y if "top" in side else y - 1.0
        return left, right, bottom, bottom + 1.0

    def _marks(self, point: Point) -> tuple[Box, Box]:
        """The room that a point takes, with both of its intervals."""
        x_low, x_high = point.x_bounds or (point.x, point.x)
        y_low, y_high = point.y_bounds or (point.y, point.y)
        (left, bottom), (right, top) = self._position(x_low, y_low), self._position(x_high, y_high)
        x, y = self._position(point.x, point.y)
        return (x - 0.5, x + 0.5, bottom - 0.3, top + 0.3), (
            left - 0.5,
            right + 0.5,
            y - 0.3,
            y + 0.3,
        )


def _covers(box: Box, others: Sequence[Box]) -> bool:
    left, right, low, high = box
    return any(left < o[1] and o[0] < right and low < o[3] and o[2] < high for o in others)


def _share(value: float, values: Sequence[float], measure: Measure) -> float:
    """How far a value lies from the least to the largest, on the scale that its axis has."""
    least, largest = min(values), max(values)
    if least == largest:
        return 0.5
    if logarithmic(measure, values):
        return math.log(value / least) / math.log(largest / least)
    return (value - least) / (largest - least)


def dominates(one: Point, other: Point, x: Measure, y: Measure) -> bool:
    """Whether `one` is at least as good on both measures and better on one."""
    no_worse = not x.betters(other.x, one.x) and not y.betters(other.y, one.y)
    return no_worse and (x.betters(one.x, other.x) or y.betters(one.y, other.y))


def pareto_front(points: Sequence[Point], x: Measure, y: Measure) -> tuple[Point, ...]:
    """Points no other dominates, best x first; one of several with the same figures.

    One pass over the points in order of x (Kung et al., 1975).
    """
    sign = {"low": 1.0, "high": -1.0}
    ordered = sorted(points, key=lambda p: (sign[x.better] * p.x, sign[y.better] * p.y))
    front: list[Point] = []
    for point in ordered:
        if not front or y.betters(point.y, front[-1].y):
            front.append(point)
    return tuple(front)


def trade_off(
    runs: Sequence[Run], x: str, y: str, colour: str, names: Mapping[str, str] | None = None
) -> TradeOff:
    """The finished runs on two measures; those without one of the two are counted, not shown.

    Args:
        runs: of one model, oldest first; the original is that of the newest.
        x: a key of `MEASURES`, as are `y` and `colour`.
        names: what runs are called, by id.
    """
    axes = MEASURES[x], MEASURES[y], MEASURES[colour]
    done = [r for r in runs if r.state is State.DONE and r.compressed is not None]
    points = tuple(p for r in done if (p := _point(r, axes, names or {})) is not None)
    originals = (_original(r, axes) for r in reversed(done))
    original = next((p for p in originals if p is not None), None)
    everything = [*points, original] if original else points
    front = pareto_front(everything, axes[0], axes[1])
    return TradeOff(*axes, points, original, front, len(done) - len(points))


def _label(run: Run) -> str:
    return run.recipe.sentence() + (" Stopped early." if run.stopped_early else "")


def _point(
    run: Run, axes: tuple[Measure, Measure, Measure], names: Mapping[str, str]
) -> Point | None:
    x, y, colour = (m.of(run)[1] for m in axes)
    if x is None or y is None:
        return None
    if _unclear(axes[2], run):
        colour = axes[2].neutral
    bounds = (axes[0].bounds(run), axes[1].bounds(run))
    disturbed = axes[0].disturbed(run) or axes[1].disturbed(run)
    name = names.get(run.id, run.id[:6])
    return Point(run.id, name, _label(run), x, y, *bounds, colour, disturbed)


def _unclear(measure: Measure, run: Run) -> bool:
    """Whether a run's figure cannot be told from the original's."""
    bounds = measure.bounds(run)
    if bounds is None or measure.neutral is None:
        return False
    return measure.disturbed(run) or bounds[0] <= measure.neutral <= bounds[1]


def _original(run: Run, axes: tuple[Measure, Measure, Measure]) -> Point | None:
    x, y, colour = (m.of(run)[0] for m in axes)
    if x is None or y is None:
        return None
    return Point("", "Original", "The original", x, y, None, None, colour)


def neighbours(chart: TradeOff, selected: str) -> tuple[str | None, str | None]:
    """The ids of the points next to the selected one on the left and on the right, `ORIGINAL`
    among them; None where there is none."""
    ordered = sorted(chart.everything, key=lambda p: (p.x, p.y))
    ids = [p.run_id or ORIGINAL for p in ordered]
    if selected not in ids:
        return None, ids[0] if ids else None
    at = ids.index(selected)
    return ids[at - 1] if at else None, ids[at + 1] if at + 1 < len(ids) else None


def notice(chart: TradeOff, *, solid: bool = False) -> str:
    """One sentence on what to notice in the chart; `solid` if it is drawn in three dimensions."""
    if not chart.points:
        return "No finished run has both figures yet."
    if chart.y.name == "change":
        return _within_a_point(chart, solid)
    best = [p for p in chart.front if p.run_id]
    if not best:
        return f"The original is not beaten on {_both(chart)} by any run."
    several = "1 run is" if len(best) == 1 else f"{len(best)} runs are"
    return (
        f"{several} not beaten on {_both(chart)} by any other. The {chart.x.superlative} has "
        f"{chart.x.show(best[0].x)} and {chart.y.show(best[0].y)}."
    )


def _both(chart: TradeOff) -> str:
    return f"both {chart.x.title.lower()} and {chart.y.title.lower()}"


def _within_a_point(chart: TradeOff, solid: bool) -> str:
    close = [p for p in chart.points if p.y >= -CLOSE]
    if not close:
        nearest = max(chart.points, key=lambda p: p.y)
        return (
            "No run stays within 1 point of the original's accuracy yet: the closest is at "
            f"{fmt.points(nearest.y)}, {chart.x.show(nearest.x)}."
        )
    best = max(close, key=lambda p: p.x)
    return (
        f"{chart.x.superlative.capitalize()} within 1 point of the original: "
        f"{chart.x.show(best.x)}, at {fmt.points(best.y)}{_collapsed(chart, solid)}."
    )


def _collapsed(chart: TradeOff, solid: bool) -> str:
    count = sum(map(chart.collapsed, chart.points))
    if not count:
        return ""
    return f"; {count} collapsed" + (" and not drawn" if solid else "")


def logarithmic(measure: Measure, values: Sequence[float]) -> bool:
    """Whether an axis needs a logarithmic scale to tell these values of a measure apart."""
    return (
        measure.spread and bool(values) and min(values) > 0 and max(values) > _SPREAD * min(values)
    )
