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
from dashboard.numbers.trade_off import ORIGINAL, ORIGINAL_SIDE, Point, TradeOff, logarithmic

LARGE = 1.5
_FONT = 13  # pixels, as are the two heights of the plot
_PLOT, _PLOT_LARGE = 280, 420
_FEW_DECADES = 100.0
_NO_MINOR_GRID = {"minor": {"showgrid": False}}
_BESIDE = "\N{EM SPACE}\N{NO-BREAK SPACE}"  # from the middle of a point to beside its ring
# Streamlit fades what is not selected; the ring shows the selection here.
_NEVER_FADED = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}


def trade_off_figure(chart: TradeOff, selected: str | None, *, large: bool = False) -> go.Figure:
    """The scatter plot; a click on a point gives the run's id as `customdata`.

    Args:
        selected: the id of the run that gets a ring, or `ORIGINAL`.
        large: for a projector: everything 1.5 times as large.
    """
    scale = LARGE if large else 1.0
    traces = [
        *_front(chart, scale),
        *_runs(chart, scale),
        *_collapsed(chart, scale),
        *_original(chart, scale),
        *_ring(chart, selected, scale),
    ]
    below = 104 if chart.coloured else 52
    margin = {"l": 64 * scale, "r": 8, "t": 28 * scale, "b": below * scale}
    layout = {
        "height": (_PLOT_LARGE if large else _PLOT) + below * scale,
        "margin": margin,
        "font": {"size": _FONT * scale},
        "legend": LEGEND,
        "hoverlabel": {"align": "left"},
        "clickmode": "event+select",
        "dragmode": "zoom",
        "xaxis": _axis(chart.x, [p.x for p in chart.everything]) | _x_range(chart) | _NO_MINOR_GRID,
        "yaxis": _axis(chart.y, [p.y for p in chart.everything]) | _range(chart) | _NO_MINOR_GRID,
    }
    return go.Figure(traces, layout)


def solid_figure(chart: TradeOff, selected: str | None) -> go.Figure:
    """The same runs in three dimensions: the measure of the colour is the depth.

    A run whose third figure may be chance, or was taken on a busy machine, stands where the
    original does.
    """
    points = [p for p in chart.shown if p.colour is not None]
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

    names = {p.run_id for p in chart.labels} | {selected}
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


def _x_range(chart: TradeOff) -> dict[str, Any]:
    ends = [end * chart.x.scale for end in chart.x_range] if chart.everything else []
    if logarithmic(chart.x, [p.x for p in chart.everything]):
        ends = [math.log10(end) for end in ends]
    return {"range": ends} if ends else {}


def _range(chart: TradeOff) -> dict[str, Any]:
    """From a little below the floor to a little above the best; as Plotly likes without a floor."""
    if chart.floor is None:
        return {}
    low = chart.floor * chart.y.scale
    ends = (p.y_bounds[1] if p.y_bounds else p.y for p in chart.points)
    high = max(0.0, *ends) * chart.y.scale
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


def _front(chart: TradeOff, scale: float) -> Iterator[dict[str, Any]]:
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
    if chart.labels:
        yield _scatter(
            chart,
            list(chart.labels),
            mode="text",
            text=[f"{_BESIDE}{escape(p.name)}{_BESIDE}" for p in chart.labels],
            textposition=list(chart.labels.values()),
            textfont={"size": _FONT * scale},
            hoverinfo="skip",
            showlegend=False,
            cliponaxis=False,
        )


def _runs(chart: TradeOff, scale: float) -> Iterator[dict[str, Any]]:
    points = chart.shown
    if not points:
        return
    yield _scatter(
        chart,
        points,
        error_x=_bars(points, chart.x, lambda p: p.x, lambda p: p.x_bounds),
        error_y=_bars(points, chart.y, lambda p: p.y, lambda p: p.y_bounds),
        mode="markers",
        marker=_marker(chart, points, scale),
        name="Run, with 95 % interval",
        **_clickable(chart, points),
    )


def _clickable(chart: TradeOff, points: Sequence[Point]) -> dict[str, Any]:
    return {
        "customdata": [[p.run_id or ORIGINAL] for p in points],
        "hovertext": [_hover(p, chart) for p in points],
        "hoverinfo": "text",
        **_NEVER_FADED,
    }


def _collapsed(chart: TradeOff, scale: float) -> Iterator[dict[str, Any]]:
    """What lies below the floor, as arrows at the edge that say how far down it is."""
    below = [p for p in chart.points if chart.collapsed(p)]
    if not below:
        return
    drawn = [replace(p, y=chart.drawn_y(p)) for p in below]
    yield _scatter(
        chart,
        drawn,
        mode="markers",
        marker={
            "symbol": "triangle-down",
            "size": 13 * scale,
            "color": FRONT,
            "line": {"width": 1},
        },
        name="Collapsed",
        cliponaxis=False,
        **_clickable(chart, below),
    )


def _original(chart: TradeOff, scale: float) -> Iterator[dict[str, Any]]:
    if chart.original is None:
        return
    yield _scatter(
        chart,
        [chart.original],
        mode="markers+text",
        marker={"symbol": "star", "size": 18 * scale, "color": STAR, "line": {"width": 1}},
        text=["Original"],
        textposition=ORIGINAL_SIDE,
        textfont={"size": _FONT * scale},
        name="Original",
        showlegend=False,
        **_clickable(chart, [chart.original]),
    )


def _ring(chart: TradeOff, selected: str | None, scale: float) -> Iterator[dict[str, Any]]:
    for point in chart.everything:
        if (point.run_id or ORIGINAL) == selected:
            at = replace(point, y=chart.drawn_y(point))
            ring = {
                "symbol": "circle-open",
                "size": 24 * scale,
                "color": RING,
                "line": {"width": 2.5},
            }
            yield _scatter(
                chart,
                [at],
                mode="markers",
                marker=ring,
                hoverinfo="skip",
                name="Selected",
                showlegend=False,
                cliponaxis=False,
            )


def _marker(chart: TradeOff, points: Sequence[Point], scale: float) -> dict[str, Any]:
    """Coloured by the third measure where every run has it and they differ; else all alike."""
    symbols = ["circle-open" if p.disturbed else "circle" for p in points]
    marker: dict[str, Any] = {"size": 14 * scale, "color": COMPRESSED, "line": {"width": 1.5}}
    marker["symbol"] = symbols
    if not chart.coloured:
        return marker
    values, title = [(p.colour or 0.0) * chart.colour.scale for p in points], chart.colour.title
    bar = {
        # below the chart, where it takes no width from it on a phone
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": -0.2,
        "yanchor": "top",
        "len": 0.6,
        "title": {
            "text": f"{title} ({chart.colour.unit})",
            "side": "top",
            "font": {"size": _FONT * scale},
        },
        "thickness": 8,
        "outlinewidth": 0,
    }
    colours = [list(c) for c in SCALE]
    return marker | {"color": values, "colorscale": colours, "showscale": True, "colorbar": bar}


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
