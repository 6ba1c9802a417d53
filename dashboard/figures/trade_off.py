"""The chart of all runs of a model on two measures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import plotly.graph_objects as go

from dashboard.figures.style import COMPRESSED, FRONT, LEGEND, RING, SCALE, STAR, error_bars
from dashboard.numbers.measures import MEASURES, Measure
from dashboard.numbers.trade_off import Point, TradeOff, logarithmic

_FEW_DECADES = 100.0
_NO_MINOR_GRID = {"minor": {"showgrid": False}}
_RIGHT = 0.75  # of the width: names of points beyond it are on their left
_BESIDE = "\N{EM SPACE}"  # from the middle of a point to beside it
# Streamlit fades what is not selected; the ring shows the selection here.
_NEVER_FADED = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}


def trade_off_figure(chart: TradeOff, selected: str | None) -> go.Figure:
    """The scatter plot; a click on a point gives the run's id as `customdata`.

    Args:
        selected: the id of the run that gets a ring.
    """
    traces = [
        *_front(chart),
        *_runs(chart),
        *_collapsed(chart),
        *_original(chart),
        *_ring(chart, selected),
    ]
    layout = {
        "height": 360,
        "margin": {"l": 64, "r": 8, "t": 28, "b": 52},
        "legend": LEGEND,
        "hoverlabel": {"align": "left"},
        "clickmode": "event+select",
        "dragmode": "zoom",
        "xaxis": _axis(chart.x, [p.x for p in chart.everything]) | _NO_MINOR_GRID,
        "yaxis": _axis(chart.y, [p.y for p in chart.everything]) | _range(chart) | _NO_MINOR_GRID,
    }
    return go.Figure(traces, layout)


def solid_figure(chart: TradeOff, selected: str | None) -> go.Figure:
    """The same runs in three dimensions: the measure of the colour is the depth.

    A run whose third figure may be chance, or was taken on a busy machine, stands where the
    original does.
    """
    points = [p for p in chart.points if p.colour is not None and not chart.collapsed(p)]
    original = [chart.original] if chart.original and chart.original.colour is not None else []

    def trace(shown: Sequence[Point], **more: Any) -> dict[str, Any]:
        return {
            "type": "scatter3d",
            "x": [p.x * chart.x.scale for p in shown],
            "y": [(p.colour or 0.0) * chart.colour.scale for p in shown],
            "z": [p.y * chart.y.scale for p in shown],
            "hovertext": [_hover(p, chart) for p in shown],
            "hoverinfo": "text",
            "mode": "markers+text",
            **more,
        }

    names = {p.run_id for p in chart.labelled} | {selected}
    runs = trace(
        points,
        text=[escape(p.name) if p.run_id in names else "" for p in points],
        marker={
            "size": [9 if p.run_id == selected else 6 for p in points],
            "color": [RING if p.run_id == selected else COMPRESSED for p in points],
        },
        name="Run",
    )
    text = ["Original"] * len(original)
    star = trace(original, text=text, marker={"size": 8, "color": STAR}, name="Original")
    depths = [p.colour or 0.0 for p in (*points, *original)]
    scene = {
        "xaxis": _axis(chart.x, [p.x for p in chart.everything]),
        "yaxis": _axis(chart.colour, depths),
        "zaxis": _axis(chart.y, [p.y for p in chart.everything]),
    }
    layout = {"height": 480, "margin": {"l": 0, "r": 0, "t": 8, "b": 8}, "showlegend": False}
    return go.Figure([runs, star], layout | {"scene": scene})


def _axis(measure: Measure, values: Sequence[float]) -> dict[str, Any]:
    """Its title, with the unit, and its scale."""
    if not logarithmic(measure, values):
        return {"title": measure.label, "zeroline": False}
    # 1, 2 and 5 of every decade, or where there are many, each decade alone
    ticks = "D2" if max(values) < _FEW_DECADES * min(values) else 1
    title = f"{measure.title} ({measure.unit_in_full}, logarithmic scale)"
    scale = {"type": "log", "dtick": ticks, "tickformat": "~r"}
    return {"title": title, **scale}


def _range(chart: TradeOff) -> dict[str, Any]:
    """From a little below the floor to a little above the best; as Plotly likes without a floor."""
    if chart.floor is None:
        return {}
    low = chart.floor * chart.y.scale
    high = max(0.0, *(p.y for p in chart.points)) * chart.y.scale
    room = 0.06 * (high - low)
    return {"range": [low - room, high + 2 * room]}


def _scatter(chart: TradeOff, points: Sequence[Point], **more: Any) -> dict[str, Any]:
    """Points in the units of the axes."""
    return {
        "type": "scatter",
        "x": [p.x * chart.x.scale for p in points],
        "y": [p.y * chart.y.scale for p in points],
        **more,
    }


def _front(chart: TradeOff) -> Iterator[dict[str, Any]]:
    shown = [p for p in chart.front if not chart.collapsed(p)]
    if len(shown) > 1:
        yield _scatter(
            chart,
            shown,
            mode="lines",
            # The corner is on the side where a run would be worse on both: nothing is promised.
            line={"color": FRONT, "width": 2, "shape": "hv", "dash": "dot"},
            name="Best so far (Pareto front)",
            hoverinfo="skip",
        )
    if chart.labelled:
        yield _scatter(
            chart,
            chart.labelled,
            mode="text",
            text=[f"{_BESIDE}{escape(p.name)}{_BESIDE}" for p in chart.labelled],
            textposition=[_label_side(chart, p) for p in chart.labelled],
            textfont={"size": 13},
            hoverinfo="skip",
            showlegend=False,
            cliponaxis=False,
        )


def _label_side(chart: TradeOff, point: Point) -> str:
    """To the right, where nothing is better on both; to the left of points at the right edge."""
    values = [p.x for p in chart.everything]
    if logarithmic(chart.x, values):
        position = math.log(point.x / min(values)) / math.log(max(values) / min(values))
    else:
        position = (point.x - min(values)) / ((max(values) - min(values)) or 1.0)
    return "top left" if position > _RIGHT else "top right"


def _runs(chart: TradeOff) -> Iterator[dict[str, Any]]:
    points = [p for p in chart.points if not chart.collapsed(p)]
    if not points:
        return
    yield _scatter(
        chart,
        points,
        error_x=_bars(points, chart.x, lambda p: p.x, lambda p: p.x_bounds),
        error_y=_bars(points, chart.y, lambda p: p.y, lambda p: p.y_bounds),
        mode="markers",
        marker=_marker(chart, points),
        name="Run, with 95 % interval",
        **_clickable(chart, points),
    )


def _clickable(chart: TradeOff, points: Sequence[Point]) -> dict[str, Any]:
    return {
        "customdata": [[p.run_id] for p in points],
        "hovertext": [_hover(p, chart) for p in points],
        "hoverinfo": "text",
        **_NEVER_FADED,
    }


def _collapsed(chart: TradeOff) -> Iterator[dict[str, Any]]:
    """What lies below the floor, as arrows at the edge that say how far down it is."""
    below = [p for p in chart.points if chart.collapsed(p)]
    if not below:
        return
    drawn = [replace(p, y=chart.floor or 0.0) for p in below]
    yield _scatter(
        chart,
        drawn,
        mode="markers",
        marker={"symbol": "triangle-down", "size": 13, "color": FRONT, "line": {"width": 1}},
        name="Collapsed, below the chart",
        **_clickable(chart, below),
    )


def _original(chart: TradeOff) -> Iterator[dict[str, Any]]:
    if chart.original is None:
        return
    yield _scatter(
        chart,
        [chart.original],
        mode="markers+text",
        marker={"symbol": "star", "size": 18, "color": STAR, "line": {"width": 1}},
        text=[f"{_BESIDE}Original"],
        textposition="bottom right",
        textfont={"size": 13},
        hovertext=[_hover(chart.original, chart)],
        hoverinfo="text",
        name="Original",
        showlegend=False,
        **_NEVER_FADED,
    )


def _ring(chart: TradeOff, selected: str | None) -> Iterator[dict[str, Any]]:
    for point in chart.points:
        if point.run_id == selected:
            at = replace(point, y=max(point.y, chart.floor)) if chart.floor else point
            ring = {"symbol": "circle-open", "size": 24, "color": RING, "line": {"width": 2.5}}
            yield _scatter(
                chart,
                [at],
                mode="markers",
                marker=ring,
                hoverinfo="skip",
                name="Selected",
                showlegend=False,
            )


def _marker(chart: TradeOff, points: Sequence[Point]) -> dict[str, Any]:
    """Coloured by the third measure where every run has it and they differ; else all alike."""
    symbols = ["circle-open" if p.disturbed else "circle" for p in points]
    marker: dict[str, Any] = {"size": 14, "color": COMPRESSED, "line": {"width": 1.5}}
    marker["symbol"] = symbols
    values = [p.colour * chart.colour.scale for p in points if p.colour is not None]
    if len(values) < len(points) or min(values) == max(values):
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
    lines = [f"<b>{escape(point.name)}</b>", *textwrap.wrap(point.label, 44)]
    values = {chart.y.name: point.y, chart.x.name: point.x}
    if point.colour is not None:
        values.setdefault(chart.colour.name, point.colour)
    lines += [f"<b>{MEASURES[n].title}</b> {MEASURES[n].show(v)}" for n, v in values.items()]
    if point.disturbed:
        lines.append("Measured while the machine was busy: the speed may be off.")
    return "<br>".join(lines)
