"""Two values of each of several things, a row for each: the figures of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

import plotly.graph_objects as go

from compression.runs.statistics import Ratio
from dashboard.figures.style import FRONT, SCALE
from dashboard.numbers import format as fmt
from dashboard.numbers.size_and_speed import Line, Speed

BEFORE, AFTER = FRONT, SCALE[0][1]
_SPREAD, _DECADES, _MARGIN = 8.0, 100.0, 0.06
_ROW, _FRAME = 38, 96
# Marks this far apart, in widths of the figure, have room for their labels between them.
_APART, _NEAR_END = 0.45, 0.2
_GAP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Mark:
    """One of the two values of every row: how it is drawn, and where (None: not there).

    Labels of one with `bars`, which are its intervals, stand above them.
    """

    name: str
    colour: str
    symbol: str
    size: int
    values: tuple[float | None, ...]
    labels: tuple[str, ...]
    bars: bool = False


@dataclass(frozen=True)
class Axis:
    """From 0, or logarithmic where values are many times apart."""

    title: str
    low: float
    high: float
    logarithmic: bool

    def place(self, value: float) -> float:
        """Where a value is: 0 at the left end of the figure, 1 at the right."""
        ends = (log10(self.low), log10(self.high)) if self.logarithmic else (self.low, self.high)
        at = log10(value) if self.logarithmic else value
        return (at - ends[0]) / (ends[1] - ends[0])


def axis(shown: Sequence[float], title: str) -> Axis:
    """An axis on which all these values are seen and, if they differ, told apart."""
    low, high = min(shown), max(shown)
    if high <= _SPREAD * low:
        return Axis(title, 0.0, (1 + 2 * _MARGIN) * high, False)
    room = (high / low) ** _MARGIN
    return Axis(title, low / room, high * room, True)


def label_place(own: float, other: float | None) -> str:
    """Where a label stands so that it is neither cut off nor on another. Places are from 0 to 1."""
    if other is None or other == own:
        return "middle left" if own > 0.5 else "middle right"
    left = own < other
    if abs(own - other) > _APART:
        return "top right" if left else "top left"
    if left:
        return "middle left" if own > _NEAR_END else "top right"
    return "middle right" if own < 1 - _NEAR_END else "top left"


def size_figure(lines: Sequence[Line]) -> go.Figure:
    """Bytes of the original and of the compressed model, a row for each way to count them."""
    marks = (
        _bytes("Original", BEFORE, "circle", 14, [line.original for line in lines]),
        _bytes("Compressed", AFTER, "diamond", 10, [line.compressed for line in lines]),
    )
    shown = [v for mark in marks for v in mark.values if v]
    return _figure([line.title for line in lines], marks, axis(shown, "Size (MB)"))


def _bytes(name: str, colour: str, symbol: str, size: int, counted: Sequence[int | None]) -> Mark:
    values = tuple(None if b is None else b / 1e6 for b in counted)
    labels = tuple("" if b is None else fmt.size(b) for b in counted)
    return Mark(name, colour, symbol, size, values, labels)


def speed_figure(speeds: Sequence[Speed]) -> go.Figure:
    """Times as fast as the original, expected (hollow) and measured, a row for each backend."""
    wanted = tuple(s.expected for s in speeds)
    measured = tuple(s.measured.value for s in speeds)
    marks = [
        Mark("Expected", BEFORE, "circle-open", 14, wanted, _factors(wanted)),
        Mark(
            "Measured, with 95 % interval",
            AFTER,
            "diamond",
            10,
            measured,
            _factors(measured),
            bars=True,
        ),
    ]
    marks = marks if any(wanted) else marks[1:]
    shown = [v for mark in marks for v in mark.values if v]
    along = axis([*shown, 1.0], "Times as fast")
    figure = _figure([s.title for s in speeds], marks, along)
    figure.data[-1].error_x = _interval([s.measured for s in speeds])
    figure.add_vline(x=1, line={"color": FRONT, "width": 1.5, "dash": "dot"}, layer="below")
    return figure


def _factors(values: Sequence[float | None]) -> tuple[str, ...]:
    return tuple("" if v is None else fmt.ratio(v) for v in values)


def _interval(ratios: Sequence[Ratio]) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, r.high - r.value) for r in ratios],
        "arrayminus": [max(0.0, r.value - r.low) for r in ratios],
        "thickness": 1.2,
        "width": 4,
        "color": AFTER,
    }


def _figure(titles: Sequence[str], marks: Sequence[Mark], along: Axis) -> go.Figure:
    figure = go.Figure()
    for at, title in enumerate(titles):
        ends = [mark.values[at] for mark in marks if mark.values[at] is not None]
        if len(ends) > 1:
            line = {"color": FRONT, "width": 1.5}
            figure.add_scatter(
                x=ends, y=[title] * 2, mode="lines", line=line, showlegend=False, hoverinfo="skip"
            )
    for mark in marks:
        _draw(figure, titles, mark, next((m for m in marks if m is not mark), None), along)
    figure.update_layout(
        height=_FRAME + _ROW * max(2, len(titles)),
        margin={"l": 8, "r": 12, "t": 40, "b": 48},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemclick": False},
        hoverlabel={"align": "left"},
        hovermode="closest",
    )
    figure.update_yaxes(
        # rows are read from the top
        range=[len(titles) - 0.4, -0.6],
        categoryorder="array",
        categoryarray=list(titles),
        automargin=True,
        showgrid=False,
        fixedrange=True,
        ticksuffix="  ",
    )
    _draw_axis(figure, along)
    return figure


def _draw(
    figure: go.Figure, titles: Sequence[str], mark: Mark, other: Mark | None, along: Axis
) -> None:
    texts, places = [], []
    for at, value in enumerate(mark.values):
        beside = other.values[at] if other else None
        same = (
            other is not None and mark.labels[at] == other.labels[at] and mark.symbol == "diamond"
        )
        texts.append("" if same else f"{_GAP * 2}{mark.labels[at]}{_GAP * 2}")
        own = None if value is None else along.place(value)
        there = None if beside is None else along.place(beside)
        if other is not None and mark.labels[at] == other.labels[at]:
            there = own  # they read the same: one label for both
        place = "middle right" if own is None else label_place(own, there)
        places.append(place.replace("middle", "top") if mark.bars else place)
    hover = [f"{t}<br><b>{mark.name}</b> {v}" for t, v in zip(titles, mark.labels, strict=True)]
    figure.add_scatter(
        x=list(mark.values),
        y=list(titles),
        mode="markers+text",
        marker={
            "color": mark.colour,
            "symbol": mark.symbol,
            "size": mark.size,
            "line": {"width": 2},
        },
        text=texts,
        textposition=places,
        cliponaxis=False,
        name=mark.name,
        hovertext=hover,
        hoverinfo="text",
    )


def _draw_axis(figure: go.Figure, along: Axis) -> None:
    if not along.logarithmic:
        figure.update_xaxes(title=along.title, range=[along.low, along.high], zeroline=False)
        return
    unit = ", logarithmic scale)" if along.title.endswith(")") else " (logarithmic scale)"
    figure.update_xaxes(
        title=along.title.removesuffix(")") + unit,
        type="log",
        range=[log10(along.low), log10(along.high)],
        dtick="D2" if along.high < _DECADES * along.low else 1,
        tickformat="~r",
        zeroline=False,
    )
