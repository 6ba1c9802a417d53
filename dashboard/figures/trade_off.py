"""The chart of all runs of a model on two measures."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import plotly.graph_objects as go

from dashboard.figures.style import COMPRESSED, FRONT, LEGEND, RING, SCALE, STAR, error_bars
from dashboard.numbers.measures import MEASURES, Measure
from dashboard.numbers.trade_off import Point, TradeOff, logarithmic, shown_x

_FEW_DECADES = 100.0
# Streamlit fades what is not selected; the ring shows the selection here.
_NEVER_FADED = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}


def trade_off_figure(chart: TradeOff, selected: str | None) -> go.Figure:
    """The scatter plot; a click on a point gives the run's id as `customdata`.

    Args:
        selected: the id of the run that gets a ring.
    """
    traces = [*_front(chart), *_runs(chart), *_original(chart), *_ring(chart, selected)]
    layout = {
        "height": 430,
        "margin": {"l": 64, "r": 8, "t": 40, "b": 56},
        "legend": LEGEND,
        "hoverlabel": {"align": "left"},
        "clickmode": "event+select",
        "dragmode": "zoom",
        "xaxis": {"title": _x_title(chart), **_x_axis(chart)},
        "yaxis": {"title": chart.y.label, "zeroline": False},
    }
    return go.Figure(traces, layout)


def _x_title(chart: TradeOff) -> str:
    scale = ", logarithmic scale" if logarithmic(chart) else ""
    return f"{chart.x.title} ({chart.x.unit_in_full}{scale})"


def _x_axis(chart: TradeOff) -> dict[str, Any]:
    if not logarithmic(chart):
        return {"zeroline": False}
    shown = shown_x(chart)
    # 1, 2 and 5 of every decade, or where there are many, each decade alone
    ticks = "D2" if max(shown) < _FEW_DECADES * min(shown) else 1
    return {"type": "log", "dtick": ticks, "minor": {"showgrid": False}, "tickformat": "~r"}


def _scatter(chart: TradeOff, points: Sequence[Point], **more: Any) -> dict[str, Any]:
    """Points in the units of the axes."""
    return {
        "type": "scatter",
        "x": [p.x * chart.x.scale for p in points],
        "y": [p.y * chart.y.scale for p in points],
        **more,
    }


def _front(chart: TradeOff) -> Iterator[dict[str, Any]]:
    if len(chart.front) < 2:
        return
    yield _scatter(
        chart,
        chart.front,
        mode="lines",
        # The corner lies on the side where a run would be worse on both: nothing is promised.
        line={"color": FRONT, "width": 2, "shape": "hv", "dash": "dot"},
        name="Best so far (Pareto front)",
        hoverinfo="skip",
    )


def _runs(chart: TradeOff) -> Iterator[dict[str, Any]]:
    if not chart.points:
        return
    yield _scatter(
        chart,
        chart.points,
        error_x=_bars(chart.points, chart.x, lambda p: p.x, lambda p: p.x_bounds),
        error_y=_bars(chart.points, chart.y, lambda p: p.y, lambda p: p.y_bounds),
        mode="markers",
        marker=_marker(chart),
        customdata=[[p.run_id] for p in chart.points],
        hovertext=[_hover(p, chart) for p in chart.points],
        hoverinfo="text",
        name="Run, with 95 % interval",
        **_NEVER_FADED,
    )


def _original(chart: TradeOff) -> Iterator[dict[str, Any]]:
    if chart.original is None:
        return
    yield _scatter(
        chart,
        [chart.original],
        mode="markers",
        marker={"symbol": "star", "size": 18, "color": STAR, "line": {"width": 1}},
        hovertext=[_hover(chart.original, chart)],
        hoverinfo="text",
        name="Original",
        **_NEVER_FADED,
    )


def _ring(chart: TradeOff, selected: str | None) -> Iterator[dict[str, Any]]:
    for point in chart.points:
        if point.run_id == selected:
            ring = {"symbol": "circle-open", "size": 24, "color": RING, "line": {"width": 2.5}}
            yield _scatter(
                chart, [point], mode="markers", marker=ring, hoverinfo="skip", name="Selected"
            )


def _marker(chart: TradeOff) -> dict[str, Any]:
    """Coloured by the third measure where every run has it and they differ; else all alike."""
    marker: dict[str, Any] = {"size": 14, "color": COMPRESSED, "line": {"width": 1.5}}
    values = [p.colour * chart.colour.scale for p in chart.points if p.colour is not None]
    if len(values) < len(chart.points) or min(values) == max(values):
        return marker
    bar = {
        "title": {"text": f"{chart.colour.title}<br>{chart.colour.unit}"},
        "thickness": 10,
        "outlinewidth": 0,
        "len": 0.9,
    }
    scale = [list(c) for c in SCALE]
    return marker | {"color": values, "colorscale": scale, "showscale": True, "colorbar": bar}


def _bars(
    points: Sequence[Point],
    measure: Measure,
    at: Callable[[Point], float],
    bounds: Callable[[Point], tuple[float, float] | None],
) -> dict[str, Any]:
    """Error bars in the unit of the axis."""
    intervals = [bounds(p) for p in points]
    return error_bars(
        [at(p) * measure.scale for p in points],
        [i and (i[0] * measure.scale, i[1] * measure.scale) for i in intervals],
        FRONT,
    )


def _hover(point: Point, chart: TradeOff) -> str:
    lines = textwrap.wrap(point.label, 44)
    values = {chart.y.name: point.y, chart.x.name: point.x}
    if point.colour is not None:
        values.setdefault(chart.colour.name, point.colour)
    lines += [f"<b>{MEASURES[n].title}</b> {MEASURES[n].show(v)}" for n, v in values.items()]
    return "<br>".join(lines)
