"""The time of each layer, and the layers on the machine's roofline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log10

import plotly.graph_objects as go

from compression.runs.results import Roof
from dashboard.figures.style import COMPRESSED, ORIGINAL, VERMILION, lay_out_rows, name_rows
from dashboard.numbers import format as fmt
from dashboard.numbers.layer_times import Bar, Spot

_ROW, _FRAME = 30, 92


def layers_figure(bars: Sequence[Bar]) -> go.Figure:
    """Milliseconds of each layer, original above compressed."""
    figure = go.Figure()
    models: dict[str, tuple[str, Callable[[Bar], float | None]]] = {
        "Original": (ORIGINAL, lambda b: b.original),
        "Compressed": (COMPRESSED, lambda b: b.compressed),
    }
    rows = [bar.name for bar in bars]
    for name, (colour, of) in models.items():
        figure.add_bar(
            y=rows,
            x=[of(bar) for bar in bars],
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            name=name,
            hovertext=[_time_of(bar, name, of(bar)) for bar in bars],
            hoverinfo="text",
        )
    name_rows(figure)
    figure.update_xaxes(title="Median time in the layer (ms)", zeroline=False)
    return lay_out_rows(figure, _FRAME + _ROW * len(rows))


def _time_of(bar: Bar, name: str, time: float | None) -> str:
    shown = "not timed on its own" if time is None else fmt.milliseconds(time)
    return f"{bar.name} ({bar.kind})<br><b>{name}</b> {shown}"


def roofline_figure(
    original: Sequence[Spot], compressed: Sequence[Spot], roofs: Sequence[Roof]
) -> go.Figure:
    """MACs per second against MACs per byte, under the limits of this machine.

    The roofline of Williams et al. (2009).
    """
    figure = go.Figure()
    shown = [s.intensity for s in (*original, *compressed)]
    ends = [min(shown), max(shown)]
    for roof, dash in zip(roofs, ("solid", "dash"), strict=False):
        bend = roof.macs_per_second / roof.bytes_per_second
        x = [min(*ends, bend) / 1.6, bend, max(*ends, bend) * 1.6]
        figure.add_scatter(
            x=x,
            y=[min(v * roof.bytes_per_second, roof.macs_per_second) / 1e9 for v in x],
            mode="lines",
            line={"color": VERMILION, "width": 2, "dash": dash},
            name=f"Limit of this machine, {roof.numbers}",
            hoverinfo="skip",
        )
    for name, colour, symbol, spots in (
        ("Original's layers", ORIGINAL, "circle", original),
        ("Compressed layers", COMPRESSED, "diamond", compressed),
    ):
        _draw_spots(figure, name, colour, symbol, spots)
    decades = {"type": "log", "dtick": 1, "tickformat": "~g", "zeroline": False}
    figure.update_xaxes(title="MACs per byte moved (logarithmic scale)", **decades)
    figure.update_yaxes(title="Billion MACs per second (logarithmic scale)", **decades)
    _ticks(figure, shown)
    lay_out_rows(figure, 420)
    return figure.update_layout(margin={"l": 64})


def _ticks(figure: go.Figure, shown: Sequence[float]) -> None:
    if log10(max(shown) / min(shown)) < 2:
        figure.update_xaxes(dtick="D2")


def _draw_spots(
    figure: go.Figure, name: str, colour: str, symbol: str, spots: Sequence[Spot]
) -> None:
    figure.add_scatter(
        x=[s.intensity for s in spots],
        y=[s.rate / 1e9 for s in spots],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 10, "line": {"width": 1}},
        name=name,
        hovertext=[
            f"{s.name}<br>{fmt.number(s.rate / 1e9)} billion MACs per second, "
            f"{fmt.percent(s.share)} of the limit<br>{fmt.milliseconds(s.milliseconds)}"
            for s in spots
        ],
        hoverinfo="text",
    )
