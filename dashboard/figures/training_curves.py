"""Training curves: loss, validation accuracy and learning rate by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from dashboard.numbers.training_history import StepTraining, TrainingHistory, Value, series

# Told apart by shape as well as by colour.
OVERLAYS = ((ORANGE, "square"), (GREEN, "diamond"), (PINK, "triangle-up"), (SKY, "x"))
_SELECTED = (COMPRESSED, "circle")
_EPOCHS = "Epoch (passes over the training images)"
Trace = dict[str, Any]
_THREE_DIGITS = {"hovertemplate": "%{y:.3g}"}
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
    traces = _losses(history)
    shown = [v for trace in traces for v in trace["y"] if v is not None]
    axis: dict[str, Any] = {"title": "Loss", "rangemode": "tozero", "nticks": 6}
    if shown and 0 < min(shown) < max(shown) / _SPREAD:
        axis = {"title": "Loss, logarithmic scale", "type": "log", "dtick": "D2"}
    layout = _layout(history, end, height, titled, axis)
    if len(history.steps) > 1:
        layout["annotations"] = [_step_label(step) for step in history.steps]
    return go.Figure(traces, layout)


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
    runs = (history, *others)
    traces = [
        _checks(run, colour, symbol, _name(run, history, bool(others)))
        for run, (colour, symbol) in zip(runs, (_SELECTED, *OVERLAYS), strict=False)
    ]
    if history.original is not None:
        level = [100 * history.original] * 2
        traces.append(_line([0, end], level, "The original", FRONT, "dot") | {"hoverinfo": "skip"})
    axis = {"title": "Validation accuracy (%)", "nticks": 7, "range": _focus(runs)}
    return go.Figure(traces, _layout(history, end, height, titled, axis))


def rate_figure(history: TrainingHistory, end: float, height: int = 170) -> go.Figure:
    """Learning rate by epoch, up to the epoch `end`; `height` in pixels."""
    x, y = series(history, lambda p: p.learning_rate)
    trace = _line(x, y, "Learning rate", COMPRESSED, "solid") | _THREE_DIGITS
    axis = {"title": "Learning rate", "rangemode": "tozero", "nticks": 4}
    layout = _layout(history, end, height, True, axis)
    layout["margin"] |= {"t": 8}
    return go.Figure([trace], layout | {"showlegend": False})


def _layout(
    history: TrainingHistory, end: float, height: int, titled: bool, axis: dict[str, Any]
) -> dict[str, Any]:
    return {
        "height": height,
        # the same on both sides everywhere, so that epochs stand above each other
        "margin": {"l": 64, "r": 12, "t": 32, "b": 48 if titled else 28},
        "legend": LEGEND,
        "hoverlabel": {"align": "left"},
        "hovermode": "x",
        "shapes": [_step_start(step) for step in history.steps[1:]],
        "xaxis": {
            "title": _EPOCHS if titled else None,
            "range": [-0.015 * end, 1.02 * end],
            "zeroline": False,
        },
        "yaxis": {"automargin": False, "zeroline": False} | axis,
    }


def _step_start(step: StepTraining) -> dict[str, Any]:
    line = {"color": FRONT, "width": 1, "dash": "dash"}
    ends = {"x0": step.start, "x1": step.start, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain"}
    return {"type": "line", "line": line} | ends


def _step_label(step: StepTraining) -> dict[str, Any]:
    place = {"x": step.start, "y": 1, "yref": "paper", "xanchor": "left", "yanchor": "top"}
    return place | {"text": f"Step {step.at + 1}", "showarrow": False, "xshift": 2}


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


def _line(
    x: Sequence[float], y: Sequence[float | None], name: str, colour: str, dash: str
) -> Trace:
    line = {"color": colour, "width": 2, "dash": dash}
    return {"type": "scatter", "x": x, "y": y, "mode": "lines", "line": line, "name": name}


def _losses(history: TrainingHistory) -> list[Trace]:
    whole = series(history, lambda p: p.loss)
    parts: list[tuple[str, Value, str, str]] = [
        ("Hard loss (labels)", lambda p: p.hard, ORANGE, "dash"),
        ("Soft loss (original)", lambda p: p.soft, GREEN, "dot"),
    ]
    traces = [_line(*whole, "Loss", COMPRESSED, "solid") | _THREE_DIGITS]
    for name, value, colour, dash in parts:
        part = series(history, value)
        if part[0] and part != whole:  # one that is all of the loss would only hide it
            traces.append(_line(*part, name, colour, dash) | _THREE_DIGITS)
    return traces


def _checks(run: TrainingHistory, colour: str, symbol: str, name: str) -> Trace:
    x, y = series(run, lambda p: 100 * p.top1.value if p.top1 else None)
    _, low = series(run, lambda p: 100 * p.top1.low if p.top1 else None)
    _, high = series(run, lambda p: 100 * p.top1.high if p.top1 else None)
    ends = [None if a is None or b is None else (a, b) for a, b in zip(low, high, strict=True)]
    return {
        "type": "scatter",
        "x": x,
        "y": y,
        "error_y": error_bars(y, ends, colour, width=3),
        "mode": "lines+markers",
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "symbol": symbol, "size": 7},
        "name": name,
        "hovertemplate": "%{y:.1f} %",
    }
