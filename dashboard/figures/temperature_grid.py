"""Accuracy against temperature, a line for each alpha."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboard.figures.style import (
    COMPRESSED,
    FRONT,
    GREEN,
    LEGEND,
    ORANGE,
    PINK,
    RING,
    SKY,
    error_bars,
)
from dashboard.numbers import format as fmt
from dashboard.numbers.temperature_grid import Cell, Grid

_STYLES = (
    (COMPRESSED, "circle", "solid"),
    (ORANGE, "square", "dash"),
    (GREEN, "diamond", "dot"),
    (PINK, "triangle-up", "dashdot"),
    (SKY, "x", "longdash"),
)
_APART = 0.025


def grid_figure(grid: Grid, selected: str | None) -> go.Figure:
    """Accuracy against temperature, a line for each alpha.

    A click on a point gives the run's id as `customdata`; `selected` is the id of the ringed run.
    """
    figure = go.Figure()
    alphas = grid.alphas
    for i, alpha in enumerate(alphas):
        shift = 1 + _APART * (2 * i - len(alphas) + 1)  # so that bars do not hide each other
        _draw_line(figure, grid, alpha, shift, _STYLES[i % len(_STYLES)], selected)
    if grid.original is not None:
        _draw_level(figure, grid, "The original", grid.original, "dot")
    if grid.labels is not None:
        _draw_level(figure, grid, "Labels only (alpha 0)", grid.labels.accuracy, "dash")
    figure.update_layout(
        height=340,
        margin={"l": 64, "r": 8, "t": 36, "b": 52},
        legend=LEGEND,
        clickmode="event+select",
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(
        title="Temperature T (logarithmic scale)",
        type="log",
        tickvals=grid.temperatures,
        ticktext=[f"{t:g}" for t in grid.temperatures],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(title="Accuracy (% of validation images)", zeroline=False)
    return figure


def _draw_level(figure: go.Figure, grid: Grid, name: str, accuracy: float, dash: str) -> None:
    figure.add_scatter(
        x=[grid.temperatures[0] / 1.15, grid.temperatures[-1] * 1.15],
        y=[100 * accuracy] * 2,
        mode="lines",
        line={"color": FRONT, "width": 2, "dash": dash},
        name=name,
        hoverinfo="skip",
    )


def _draw_line(
    figure: go.Figure,
    grid: Grid,
    alpha: float,
    shift: float,
    style: tuple[str, str, str],
    selected: str | None,
) -> None:
    colour, symbol, dash = style
    cells = [c for c in grid.cells if c.alpha == alpha]
    figure.add_scatter(
        x=[c.temperature * shift for c in cells],
        y=[100 * c.accuracy for c in cells],
        error_y=error_bars(
            [100 * c.accuracy for c in cells], [(100 * c.low, 100 * c.high) for c in cells], colour
        ),
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": dash},
        marker={
            "color": colour,
            "symbol": symbol,
            "size": 11,
            "line": {
                "width": [3.0 if c.run.id == selected else 0.0 for c in cells],
                "color": RING,
            },
        },
        customdata=[[c.run.id] for c in cells],
        hovertext=[_hover(c) for c in cells],
        hoverinfo="text",
        name=f"Alpha {alpha:g}",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )


def _hover(cell: Cell) -> str:
    return (
        f"T = {cell.temperature:g}, alpha {cell.alpha:g}<br><b>Accuracy</b> "
        f"{fmt.percent(cell.accuracy)}<br>95 % interval {fmt.number(100 * cell.low)} to "
        f"{fmt.percent(cell.high)}"
    )
