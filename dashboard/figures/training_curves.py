"""Training curves: loss, validation accuracy and learning rate by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.figures.style import (
    COMPRESSED,
    FRONT,
    GREEN,
    LEGEND,
    ORANGE,
    PINK,
    SKY,
    error_bars,
)
from dashboard.numbers.training_history import TrainingHistory, Value, series

# Told apart by shape as well as by colour.
OVERLAYS = ((ORANGE, "square"), (GREEN, "diamond"), (PINK, "triangle-up"), (SKY, "x"))
_SELECTED = (COMPRESSED, "circle")
_EPOCHS = "Epoch (passes over the training images)"
_SPREAD = 30.0
_FAR, _FEWEST = 0.1, 3


def loss_figure(
    history: TrainingHistory, end: float, height: int = 250, titled: bool = True
) -> go.Figure:
    """Loss and its two parts by epoch.

    Args:
        end: the last epoch of the axis.
        height: in pixels.
        titled: whether the axis of epochs has its title.
    """
    figure = go.Figure()
    _draw_losses(figure, history)
    for step in history.steps if len(history.steps) > 1 else ():
        figure.add_annotation(
            x=step.start,
            y=1,
            yref="paper",
            text=f"Step {step.at + 1}",
            showarrow=False,
            xanchor="left",
            yanchor="top",
            xshift=2,
        )
    _lay_out(figure, history, end, height, titled)
    return figure


def accuracy_figure(
    history: TrainingHistory,
    end: float,
    height: int = 300,
    titled: bool = True,
    others: Sequence[TrainingHistory] = (),
) -> go.Figure:
    """Validation accuracy in percent by epoch, with its 95 % intervals.

    Args:
        end: the last epoch of the axis.
        height: in pixels.
        titled: whether the axis of epochs has its title.
        others: at most as many as there are `OVERLAYS`, drawn beside it.
    """
    figure = go.Figure()
    runs = (history, *others)
    for run, (colour, symbol) in zip(runs, (_SELECTED, *OVERLAYS), strict=False):
        _draw_checks(figure, run, colour, symbol, _name(run, history, bool(others)))
    if history.original is not None:
        figure.add_scatter(
            x=[0, end],
            y=[100 * history.original] * 2,
            mode="lines",
            line={"color": FRONT, "width": 2, "dash": "dot"},
            name="The original",
            hoverinfo="skip",
        )
    _lay_out(figure, history, end, height, titled)
    figure.update_yaxes(title="Validation accuracy (%)", nticks=7, range=_focus(runs))
    return figure


def rate_figure(history: TrainingHistory, end: float, height: int = 170) -> go.Figure:
    """Learning rate by epoch, up to the epoch `end`; `height` in pixels."""
    figure = go.Figure()
    _draw(figure, history, "Learning rate", lambda p: p.learning_rate, COMPRESSED, "solid")
    _lay_out(figure, history, end, height, titled=True)
    figure.update_layout(showlegend=False, margin={"t": 8})
    figure.update_yaxes(title="Learning rate", rangemode="tozero", nticks=4)
    return figure


def _lay_out(
    figure: go.Figure, history: TrainingHistory, end: float, height: int, titled: bool
) -> None:
    for step in history.steps[1:]:
        figure.add_vline(x=step.start, line={"color": FRONT, "width": 1, "dash": "dash"})
    figure.update_layout(
        height=height,
        # the same on both sides everywhere, so that epochs stand above each other
        margin={"l": 64, "r": 12, "t": 32, "b": 48 if titled else 28},
        legend=LEGEND,
        hoverlabel={"align": "left"},
        hovermode="x",
    )
    figure.update_xaxes(range=[-0.015 * end, 1.02 * end], zeroline=False)
    figure.update_xaxes(title=_EPOCHS if titled else None)
    figure.update_yaxes(automargin=False, zeroline=False)


def _focus(runs: Sequence[TrainingHistory]) -> list[float] | None:
    """Where accuracies are after the first quarter, if they began far below; in percent."""
    checks = [check for run in runs for check in run.checks]
    later = [check for run in runs for check in run.checks if check.epoch >= run.end / 4]
    if len(later) < _FEWEST:
        return None
    bottom = min(check.low for check in later)
    top = max([check.high for check in checks] + [r.original for r in runs if r.original])
    if min(check.low for check in checks) > bottom - _FAR:
        return None
    margin = max(0.08 * (top - bottom), 0.005)
    return [100 * (bottom - margin), 100 * (top + margin)]


def _name(run: TrainingHistory, selected: TrainingHistory, several: bool) -> str:
    if run is not selected:
        return run.label
    return f"This run: {run.label}" if several else "This run, with 95 % interval"


def _draw(
    figure: go.Figure, history: TrainingHistory, name: str, value: Value, colour: str, dash: str
) -> None:
    x, y = series(history, value)
    line = {"color": colour, "width": 2, "dash": dash}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, name=name, hovertemplate="%{y:.3g}")


def _draw_losses(figure: go.Figure, history: TrainingHistory) -> None:
    whole = series(history, lambda p: p.loss)
    parts: list[tuple[str, Value, str, str]] = [
        ("Hard loss (labels)", lambda p: p.hard, ORANGE, "dash"),
        ("Soft loss (original)", lambda p: p.soft, GREEN, "dot"),
    ]
    _draw(figure, history, "Loss", lambda p: p.loss, COMPRESSED, "solid")
    for name, value, colour, dash in parts:
        part = series(history, value)
        if part[0] and part != whole:  # one that is all of the loss would only hide it
            _draw(figure, history, name, value, colour, dash)
    shown = [v for trace in figure.data for v in trace.y if v is not None]
    if shown and 0 < min(shown) < max(shown) / _SPREAD:
        figure.update_yaxes(title="Loss, logarithmic scale", type="log", dtick="D2")
    else:
        figure.update_yaxes(title="Loss", rangemode="tozero", nticks=6)


def _draw_checks(
    figure: go.Figure, run: TrainingHistory, colour: str, symbol: str, name: str
) -> None:
    x, y = series(run, lambda p: 100 * p.top1.value if p.top1 else None)
    _, low = series(run, lambda p: 100 * p.top1.low if p.top1 else None)
    _, high = series(run, lambda p: 100 * p.top1.high if p.top1 else None)
    ends = [None if a is None or b is None else (a, b) for a, b in zip(low, high, strict=True)]
    figure.add_scatter(
        x=x,
        y=y,
        error_y=error_bars(y, ends, colour, width=3),
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"color": colour, "symbol": symbol, "size": 7},
        name=name,
        hovertemplate="%{y:.1f} %",
    )
