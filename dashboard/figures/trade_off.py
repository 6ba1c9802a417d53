"""The chart of all runs of a model on two measures."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from dashboard.figures.style import FRONT, LEGEND, RING, SCALE, STAR, error_bars
from dashboard.numbers.measures import MEASURES, Measure
from dashboard.numbers.trade_off import Point, TradeOff, logarithmic, shown_x

_FEW_DECADES = 100.0


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
        legend=LEGEND,
        hoverlabel={"align": "left"},
        clickmode="event+select",
        dragmode="zoom",
    )
    figure.update_xaxes(title=_x_title(chart), **_x_axis(chart))
    figure.update_yaxes(title=chart.y.label, zeroline=False)
    return figure


def _x_title(chart: TradeOff) -> str:
    scale = ", logarithmic scale" if logarithmic(chart) else ""
    return f"{chart.x.title} ({chart.x.unit_in_full}{scale})"


def _x_axis(chart: TradeOff) -> dict[str, object]:
    if not logarithmic(chart):
        return {"zeroline": False}
    shown = shown_x(chart)
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
        "title": {"text": f"{chart.colour.title}<br>{chart.colour.unit}"},
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
    """Error bars in the unit of the axis."""
    intervals = [bounds(p) for p in points]
    return error_bars(
        [at(p) * measure.scale for p in points],
        [i and (i[0] * measure.scale, i[1] * measure.scale) for i in intervals],
        FRONT,
    )


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
