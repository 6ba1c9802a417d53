"""Figures of how runs learned. No Streamlit and no torch."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.figures.style import FRONT, SCALE
from dashboard.numbers.training_history import Learning, Value, series

OWN = SCALE[0][1]
# Told apart by shape as well as by colour.
OVERLAYS = (
    ("#e69f00", "square"),
    ("#009e73", "diamond"),
    ("#cc79a7", "triangle-up"),
    ("#56b4e9", "x"),
)
_SPREAD = 30.0
_FAR, _FEWEST = 0.1, 3


def loss_figure(own: Learning, end: float, height: int = 250, titled: bool = True) -> go.Figure:
    """Loss and its two parts by epoch, up to `end`; `titled` says whether epochs are named."""
    figure = go.Figure()
    _draw_losses(figure, own)
    for stretch in own.stretches if len(own.stretches) > 1 else ():
        figure.add_annotation(
            x=stretch.start,
            y=1,
            yref="paper",
            text=f"Step {stretch.at + 1}",
            showarrow=False,
            xanchor="left",
            yanchor="top",
            xshift=2,
        )
    _lay_out(figure, own, end, height, titled)
    return figure


def accuracy_figure(
    own: Learning,
    end: float,
    height: int = 300,
    titled: bool = True,
    others: Sequence[Learning] = (),
) -> go.Figure:
    """Validation accuracy by epoch with its 95 % intervals, beside that of other runs."""
    figure = go.Figure()
    for run, (colour, symbol) in zip((own, *others), (_OWN, *OVERLAYS), strict=False):
        _draw_looks(figure, run, colour, symbol, _name(run, own, bool(others)))
    if own.original is not None:
        figure.add_scatter(
            x=[0, end],
            y=[100 * own.original] * 2,
            mode="lines",
            line={"color": FRONT, "width": 2, "dash": "dot"},
            name="The original",
            hoverinfo="skip",
        )
    _lay_out(figure, own, end, height, titled)
    figure.update_yaxes(title="Validation accuracy (%)", nticks=7, range=_focus((own, *others)))
    return figure


def rate_figure(own: Learning, end: float, height: int = 170) -> go.Figure:
    """Learning rate by epoch."""
    figure = go.Figure()
    _draw(figure, own, "Learning rate", lambda p: p.learning_rate, OWN, "solid")
    _lay_out(figure, own, end, height, titled=True)
    figure.update_layout(showlegend=False, margin={"t": 8})
    figure.update_yaxes(title="Learning rate", rangemode="tozero", nticks=4)
    return figure


_OWN = (OWN, "circle")
_EPOCHS = "Epoch (passes over the training images)"


def _lay_out(figure: go.Figure, own: Learning, end: float, height: int, titled: bool) -> None:
    for stretch in own.stretches[1:]:
        figure.add_vline(x=stretch.start, line={"color": FRONT, "width": 1, "dash": "dash"})
    figure.update_layout(
        height=height,
        # the same on both sides everywhere, so that epochs stand above each other
        margin={"l": 64, "r": 12, "t": 32, "b": 48 if titled else 28},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemclick": False},
        hoverlabel={"align": "left"},
        hovermode="x",
    )
    figure.update_xaxes(range=[-0.015 * end, 1.02 * end], zeroline=False)
    figure.update_xaxes(title=_EPOCHS if titled else None)
    figure.update_yaxes(automargin=False, zeroline=False)


def _focus(runs: Sequence[Learning]) -> list[float] | None:
    """Where accuracies are after the first quarter, if they began far below; in percent."""
    everything = [look for run in runs for look in run.looks]
    later = [look for run in runs for look in run.looks if look.epoch >= run.end / 4]
    if len(later) < _FEWEST:
        return None
    bottom = min(look.low for look in later)
    tops = [look.high for look in everything] + [r.original for r in runs if r.original]
    top = max(tops)
    if min(look.low for look in everything) > bottom - _FAR:
        return None
    margin = max(0.08 * (top - bottom), 0.005)
    return [100 * (bottom - margin), 100 * (top + margin)]


def _name(run: Learning, own: Learning, several: bool) -> str:
    if run is not own:
        return run.label
    return f"This run: {run.label}" if several else "This run, with 95 % interval"


def _draw(
    figure: go.Figure, numbers: Learning, name: str, value: Value, colour: str, dash: str
) -> None:
    x, y = series(numbers, value)
    line = {"color": colour, "width": 2, "dash": dash}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, hovertemplate="%{y:.3g}")


def _draw_losses(figure: go.Figure, own: Learning) -> None:
    whole = series(own, lambda p: p.loss)
    parts: list[tuple[str, Value, str, str]] = [
        ("Hard (labels)", lambda p: p.hard, "#e69f00", "dash"),
        ("Soft (original)", lambda p: p.soft, "#009e73", "dot"),
    ]
    # a part that is all of the loss would only hide it
    drawn = [part for part in parts if (found := series(own, part[1]))[0] and found != whole]
    _draw(figure, own, "Loss", lambda p: p.loss, OWN, "solid")
    for name, value, colour, dash in drawn:
        _draw(figure, own, name, value, colour, dash)
    shown = [v for trace in figure.data for v in trace.y if v is not None]
    if shown and 0 < min(shown) < max(shown) / _SPREAD:
        figure.update_yaxes(title="Loss, logarithmic scale", type="log", dtick="D2")
    else:
        figure.update_yaxes(title="Loss", rangemode="tozero", nticks=6)


def _draw_looks(figure: go.Figure, run: Learning, colour: str, symbol: str, name: str) -> None:
    x, y = series(run, lambda p: 100 * p.top1.value if p.top1 else None)
    _, above = series(run, lambda p: 100 * (p.top1.high - p.top1.value) if p.top1 else None)
    _, below = series(run, lambda p: 100 * (p.top1.value - p.top1.low) if p.top1 else None)
    figure.add_scatter(
        x=x,
        y=y,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, v or 0.0) for v in above],
            "arrayminus": [max(0.0, v or 0.0) for v in below],
            "thickness": 1.2,
            "width": 3,
            "color": colour,
        },
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"color": colour, "symbol": symbol, "size": 7},
        name=name,
        hovertemplate="%{y:.1f} %",
    )
