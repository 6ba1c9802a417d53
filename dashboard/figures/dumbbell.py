"""Original and compressed, or expected and measured, side by side: a row for each kind of size or
backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

import plotly.graph_objects as go

from dashboard.figures.style import COMPRESSED, FRONT, LEGEND, ORIGINAL, error_bars
from dashboard.numbers import format as fmt
from dashboard.numbers.size_and_speed import Line, Speed

_SPREAD, _DECADES, _MARGIN = 8.0, 100.0, 0.06
_ROW, _FRAME = 38, 96
# Marks this far apart, in widths of the figure, have room for their labels between them.
_APART, _NEAR_END = 0.45, 0.2
_GAP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Mark:
    """One of the two values of every row: how it is drawn, and where (None: no value).

    Args:
        bars: whether it has intervals; its labels then stand above them.
        second: whether it is drawn over the other, and needs no label where both read the same.
    """

    name: str
    colour: str
    symbol: str
    size: int
    values: tuple[float | None, ...]
    labels: tuple[str, ...]
    bars: bool = False
    second: bool = False


@dataclass(frozen=True)
class Axis:
    """From 0, or logarithmic where values are many times apart. `unit` may be empty."""

    title: str
    unit: str
    low: float
    high: float
    logarithmic: bool

    @property
    def label(self) -> str:
        """Title, unit and scale."""
        scale = "logarithmic scale" if self.logarithmic else ""
        notes = ", ".join(filter(None, [self.unit, scale]))
        return f"{self.title} ({notes})" if notes else self.title

    def place(self, value: float) -> float:
        """Where a value is: 0 at the left end of the figure, 1 at the right."""
        ends = (log10(self.low), log10(self.high)) if self.logarithmic else (self.low, self.high)
        at = log10(value) if self.logarithmic else value
        return (at - ends[0]) / (ends[1] - ends[0])


def axis(shown: Sequence[float], title: str, unit: str = "") -> Axis:
    """An axis on which all these values are seen and, if they differ, told apart."""
    low, high = min(shown), max(shown)
    if high <= _SPREAD * low:
        return Axis(title, unit, 0.0, (1 + 2 * _MARGIN) * high, False)
    room = (high / low) ** _MARGIN
    return Axis(title, unit, low / room, high * room, True)


def label_place(at: float, other: float | None) -> str:
    """Where a label stands so that it is neither cut off nor on top of the other.

    Args:
        at: where its mark is, 0 at the left end of the figure, 1 at the right.
        other: where the other mark of the row is, if there is one.

    Returns:
        Plotly's `textposition`.
    """
    if other is None or other == at:
        return "middle left" if at > 0.5 else "middle right"
    left = at < other
    if abs(at - other) > _APART:
        return "top right" if left else "top left"
    if left:
        return "middle left" if at > _NEAR_END else "top right"
    return "middle right" if at < 1 - _NEAR_END else "top left"


def size_figure(lines: Sequence[Line]) -> go.Figure:
    """Bytes of the original and of the compressed model, a row for each way to count them."""
    marks = (
        _bytes("Original", [line.original for line in lines]),
        _bytes("Compressed", [line.compressed for line in lines], second=True),
    )
    shown = [v for mark in marks for v in mark.values if v]
    return _figure([line.title for line in lines], marks, axis(shown, "Size", "MB"))


def _bytes(name: str, counts: Sequence[int | None], *, second: bool = False) -> Mark:
    values = tuple(None if b is None else b / 1e6 for b in counts)
    labels = tuple("" if b is None else fmt.size(b) for b in counts)
    if second:
        return Mark(name, COMPRESSED, "diamond", 10, values, labels, second=True)
    return Mark(name, ORIGINAL, "circle", 14, values, labels)


def speed_figure(speeds: Sequence[Speed]) -> go.Figure:
    """Times as fast as the original, expected (hollow) and measured, a row for each backend."""
    expected = tuple(s.expected for s in speeds)
    measured = tuple(s.measured.value for s in speeds)
    marks = [
        Mark("Expected", ORIGINAL, "circle-open", 14, expected, _factors(expected)),
        Mark(
            "Measured, with 95 % interval",
            COMPRESSED,
            "diamond",
            10,
            measured,
            _factors(measured),
            bars=True,
            second=True,
        ),
    ]
    marks = marks if any(expected) else marks[1:]
    shown = [v for mark in marks for v in mark.values if v]
    along = axis([*shown, 1.0], "Times as fast")
    figure = _figure([s.title for s in speeds], marks, along)
    ratios = [s.measured for s in speeds]
    figure.data[-1].error_x = error_bars(measured, [(r.low, r.high) for r in ratios], COMPRESSED)
    figure.add_vline(x=1, line={"color": FRONT, "width": 1.5, "dash": "dot"}, layer="below")
    return figure


def _factors(values: Sequence[float | None]) -> tuple[str, ...]:
    return tuple("" if v is None else fmt.ratio(v) for v in values)


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
        legend=LEGEND,
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
        text=[_text(mark, other, row) for row in range(len(titles))],
        textposition=[_place(mark, other, row, along) for row in range(len(titles))],
        cliponaxis=False,
        name=mark.name,
        hovertext=hover,
        hoverinfo="text",
    )


def _read_the_same(mark: Mark, other: Mark | None, row: int) -> bool:
    return other is not None and mark.labels[row] == other.labels[row]


def _text(mark: Mark, other: Mark | None, row: int) -> str:
    hidden = mark.second and _read_the_same(mark, other, row)
    return "" if hidden else f"{_GAP * 2}{mark.labels[row]}{_GAP * 2}"


def _place(mark: Mark, other: Mark | None, row: int, along: Axis) -> str:
    value, beside = mark.values[row], other.values[row] if other else None
    if value is None:
        place = "middle right"
    elif beside is None or _read_the_same(mark, other, row):  # one label for both
        place = label_place(along.place(value), None)
    else:
        place = label_place(along.place(value), along.place(beside))
    return place.replace("middle", "top") if mark.bars else place


def _draw_axis(figure: go.Figure, along: Axis) -> None:
    if not along.logarithmic:
        figure.update_xaxes(title=along.label, range=[along.low, along.high], zeroline=False)
        return
    figure.update_xaxes(
        title=along.label,
        type="log",
        range=[log10(along.low), log10(along.high)],
        dtick="D2" if along.high < _DECADES * along.low else 1,
        tickformat="~r",
        zeroline=False,
    )
