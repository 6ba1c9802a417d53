"""Numbers first, as frozen values; figures second. No Streamlit and no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from compression.runs.results import Run, State
from dashboard.figures.style import FRONT, RING, SCALE, STAR
from dashboard.numbers import format as fmt
from dashboard.numbers.measures import MEASURES, Measure

CLOSE = 0.01
_SPREAD = 8.0
_FEW_DECADES = 100.0


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
    loss_bounds: tuple[float, float] | None = None


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
    """The finished runs on two measures; those without one of the two are counted, not shown."""
    axes = MEASURES[x], MEASURES[y], MEASURES[colour]
    done = [r for r in runs if r.state is State.DONE and r.compressed is not None]
    found = [_point(r, axes) for r in done]
    points = tuple(p for p in found if p is not None)
    found = [_original(r, axes) for r in reversed(done)]
    original = next((p for p in found if p is not None), None)
    everything = [*points, original] if original else points
    front = pareto_front(everything, axes[0], axes[1])
    return TradeOff(*axes, points, original, front, len(done) - len(points))


def _label(run: Run) -> str:
    return run.recipe.sentence() + (" Stopped early." if run.stopped_early else "")


def _point(run: Run, axes: tuple[Measure, Measure, Measure]) -> Point | None:
    x, y, colour = (m.of(run)[1] for m in axes)
    if x is None or y is None:
        return None
    change = run.delta.top1 if run.delta else None
    return Point(
        run.id,
        _label(run),
        x,
        y,
        axes[0].bounds(run),
        axes[1].bounds(run),
        colour,
        (change.low, change.high) if change else None,
    )


def _original(run: Run, axes: tuple[Measure, Measure, Measure]) -> Point | None:
    x, y, colour = (m.of(run)[0] for m in axes)
    if x is None or y is None:
        return None
    return Point("", "The original", x, y, None, None, colour)


def notice(chart: TradeOff) -> str:
    """What to notice, from the numbers."""
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
    shown = _abscissas(chart)
    return chart.x.spread and bool(shown) and min(shown) > 0 and max(shown) > _SPREAD * min(shown)


def _abscissas(chart: TradeOff) -> list[float]:
    return [p.x for p in (*chart.points, *([chart.original] if chart.original else []))]


def trade_off_figure(chart: TradeOff, selected: str | None) -> go.Figure:
    """The scatter plot; a click on a point gives the run's id as `customdata`."""
    figure = go.Figure()
    _draw_front(figure, chart)
    _draw_runs(figure, chart)
    _draw_original(figure, chart)
    _draw_selected(figure, chart, selected)
    figure.update_layout(
        height=430,
        margin={"l": 64, "r": 8, "t": 40, "b": 56},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemclick": False},
        hoverlabel={"align": "left"},
        clickmode="event+select",
        dragmode="zoom",
    )
    figure.update_xaxes(title=_x_title(chart), **_x_axis(chart))
    figure.update_yaxes(title=chart.y.label, zeroline=False)
    return figure


def _x_title(chart: TradeOff) -> str:
    scale = ", logarithmic scale" if logarithmic(chart) else ""
    return f"{chart.x.title} ({chart.x.unit}{scale})"


def _x_axis(chart: TradeOff) -> dict[str, object]:
    if not logarithmic(chart):
        return {"zeroline": False}
    shown = _abscissas(chart)
    # 1, 2 and 5 of every decade, or where there are many, each decade alone
    ticks = "D2" if max(shown) < _FEW_DECADES * min(shown) else 1
    return {"type": "log", "dtick": ticks, "minor": {"showgrid": False}, "tickformat": "~r"}


def _draw_front(figure: go.Figure, chart: TradeOff) -> None:
    if len(chart.front) < 2:
        return
    figure.add_scatter(
        x=[p.x * chart.x.scale for p in chart.front],
        y=[p.y * chart.y.scale for p in chart.front],
        mode="lines",
        # The corner lies on the side where a run would be worse on both: nothing is promised.
        line={"color": FRONT, "width": 2, "shape": "hv", "dash": "dot"},
        name="Best so far (Pareto front)",
        hoverinfo="skip",
    )


def _draw_runs(figure: go.Figure, chart: TradeOff) -> None:
    if not chart.points:
        return
    figure.add_scatter(
        x=[p.x * chart.x.scale for p in chart.points],
        y=[p.y * chart.y.scale for p in chart.points],
        error_x=_bars(chart.points, chart.x, lambda p: p.x, lambda p: p.x_bounds),
        error_y=_bars(chart.points, chart.y, lambda p: p.y, lambda p: p.y_bounds),
        mode="markers",
        marker=_marker(chart),
        customdata=[[p.run_id] for p in chart.points],
        hovertext=[_hover(p, chart) for p in chart.points],
        hoverinfo="text",
        name="Run, with 95 % interval",
        # Streamlit fades what is not selected; the ring shows the selection here.
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )


def _marker(chart: TradeOff) -> dict[str, object]:
    """Coloured by the third measure where every run has it and they differ; else all alike."""
    marker: dict[str, object] = {"size": 14, "color": SCALE[0][1], "line": {"width": 1.5}}
    known = [p.colour * chart.colour.scale for p in chart.points if p.colour is not None]
    if len(known) < len(chart.points) or min(known) == max(known):
        return marker
    bar = {
        "title": {"text": f"{chart.colour.title}<br>{chart.colour.unit.split(' of ')[0]}"},
        "thickness": 10,
        "outlinewidth": 0,
        "len": 0.9,
    }
    scale = [list(c) for c in SCALE]
    return marker | {"color": known, "colorscale": scale, "showscale": True, "colorbar": bar}


def _bars(
    points: Sequence[Point],
    measure: Measure,
    at: Callable[[Point], float],
    bounds: Callable[[Point], tuple[float, float] | None],
) -> dict[str, object]:
    found = [(at(p), bounds(p) or (at(p), at(p))) for p in points]
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, high - value) * measure.scale for value, (_, high) in found],
        "arrayminus": [max(0.0, value - low) * measure.scale for value, (low, _) in found],
        "thickness": 1.2,
        "width": 4,
        "color": FRONT,
    }


def _hover(point: Point, chart: TradeOff) -> str:
    lines = textwrap.wrap(point.label, 44)
    shown = dict.fromkeys((chart.y.name, chart.x.name))
    values = {chart.x.name: point.x, chart.y.name: point.y}
    lines += [f"<b>{MEASURES[n].title}</b> {MEASURES[n].show(values[n])}" for n in shown]
    if point.colour is not None and chart.colour.name not in values:
        lines.append(f"<b>{chart.colour.title}</b> {chart.colour.show(point.colour)}")
    return "<br>".join(lines)


def _draw_original(figure: go.Figure, chart: TradeOff) -> None:
    if chart.original is None:
        return
    figure.add_scatter(
        x=[chart.original.x * chart.x.scale],
        y=[chart.original.y * chart.y.scale],
        mode="markers",
        marker={"symbol": "star", "size": 18, "color": STAR, "line": {"width": 1}},
        hovertext=[_hover(chart.original, chart)],
        hoverinfo="text",
        name="Original",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )


def _draw_selected(figure: go.Figure, chart: TradeOff, selected: str | None) -> None:
    for point in chart.points:
        if point.run_id == selected:
            figure.add_scatter(
                x=[point.x * chart.x.scale],
                y=[point.y * chart.y.scale],
                mode="markers",
                marker={
                    "symbol": "circle-open",
                    "size": 24,
                    "color": RING,
                    "line": {"width": 2.5},
                },
                hoverinfo="skip",
                name="Selected",
            )
