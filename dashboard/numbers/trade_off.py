"""All runs of a model on two measures: the points, the Pareto front, what to notice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compression.runs.results import Run, State
from dashboard.numbers import format as fmt
from dashboard.numbers.measures import MEASURES, Measure

CLOSE = 0.01
_SPREAD = 8.0


@dataclass(frozen=True)
class Point:
    """One run, or the original, in the base units of the chart's measures."""

    run_id: str
    label: str
    x: float
    y: float
    x_bounds: tuple[float, float] | None
    y_bounds: tuple[float, float] | None
    colour: float | None


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
        against = self.x.title.lower()
        return f"{self.y.title} against {against}, coloured by {self.colour.title.lower()}"


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


def trade_off(runs: Sequence[Run], x: str, y: str, colour: str) -> TradeOff:
    """The finished runs on two measures; those without one of the two are counted, not shown.

    Args:
        runs: of one model, oldest first; the original is that of the newest.
        x: a key of `MEASURES`, as are `y` and `colour`.
    """
    axes = MEASURES[x], MEASURES[y], MEASURES[colour]
    done = [r for r in runs if r.state is State.DONE and r.compressed is not None]
    points = tuple(p for r in done if (p := _point(r, axes)) is not None)
    originals = (_original(r, axes) for r in reversed(done))
    original = next((p for p in originals if p is not None), None)
    everything = [*points, original] if original else points
    front = pareto_front(everything, axes[0], axes[1])
    return TradeOff(*axes, points, original, front, len(done) - len(points))


def _label(run: Run) -> str:
    return run.recipe.sentence() + (" Stopped early." if run.stopped_early else "")


def _point(run: Run, axes: tuple[Measure, Measure, Measure]) -> Point | None:
    x, y, colour = (m.of(run)[1] for m in axes)
    if x is None or y is None:
        return None
    return Point(run.id, _label(run), x, y, axes[0].bounds(run), axes[1].bounds(run), colour)


def _original(run: Run, axes: tuple[Measure, Measure, Measure]) -> Point | None:
    x, y, colour = (m.of(run)[0] for m in axes)
    if x is None or y is None:
        return None
    return Point("", "The original", x, y, None, None, colour)


def notice(chart: TradeOff) -> str:
    """One sentence on what to notice in the chart."""
    if not chart.points:
        return "No finished run has both figures yet."
    if chart.y.name == "accuracy" and chart.original is not None:
        return _within_a_point(chart, chart.original)
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


def _within_a_point(chart: TradeOff, original: Point) -> str:
    close = [p for p in chart.points if p.y >= original.y - CLOSE]
    if not close:
        nearest = max(chart.points, key=lambda p: p.y)
        return (
            "No run stays within 1 point of the original's accuracy yet: the closest is at "
            f"{fmt.points(nearest.y - original.y)}, with {chart.x.show(nearest.x)}."
        )
    best = min(close, key=lambda p: p.x if chart.x.better == "low" else -p.x)
    against = chart.x.show(original.x)
    if best.x == original.x:
        return f"No run differs from the original ({against}) on {chart.x.title.lower()}."
    change = fmt.points(best.y - original.y)
    return (
        f"Within 1 point of the original's accuracy, the {chart.x.superlative} run has "
        f"{chart.x.show(best.x)} against {against}, at {change}."
    )


def logarithmic(chart: TradeOff) -> bool:
    """Whether the x axis needs a logarithmic scale to tell the runs apart."""
    shown = shown_x(chart)
    return chart.x.spread and bool(shown) and min(shown) > 0 and max(shown) > _SPREAD * min(shown)


def shown_x(chart: TradeOff) -> list[float]:
    """Where every run and the original lie on the x axis, in the measure's base unit."""
    return [p.x for p in (*chart.points, *([chart.original] if chart.original else []))]
