"""Figures of latency in depth. No Streamlit and no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, log10

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from compression.catalogue.backends import title
from compression.runs.results import Latency, Roof, Timing
from dashboard.figures.style import FRONT, SCALE
from dashboard.numbers import format as fmt
from dashboard.numbers.backend_timings import Line
from dashboard.numbers.layer_times import Bar, Spot

BEFORE, AFTER, AFTER_INT8 = FRONT, SCALE[0][1], "#e69f00"
_MORE = ("#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_SYMBOLS = ("square", "triangle-up", "x", "star")
_SPREAD = 8.0
_PER_ROW, _PANEL = 3, 300
_LEGEND = {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "itemclick": False}
_ROW, _FRAME = 46, 92


def _lay_out(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 36, "b": 48},
        legend=_LEGEND,
        hoverlabel={"align": "left"},
        hovermode="closest",
        bargap=0.35,
        bargroupgap=0.08,
    )
    return figure


def _names(figure: go.Figure) -> None:
    """Rows are read from the top, and their names get the room they need."""
    figure.update_yaxes(
        autorange="reversed", automargin=True, showgrid=False, fixedrange=True, ticksuffix="  "
    )


def backends_figure(timings: Sequence[Timing]) -> go.Figure:
    """Median milliseconds of both models in each backend; lines reach to the 90th percentile."""
    rows = [title(t.backend) for t in timings]
    figure = go.Figure()
    both: dict[str, tuple[str, list[Latency]]] = {
        "Original": (BEFORE, [t.baseline for t in timings]),
        "Compressed": (AFTER, [t.compressed for t in timings]),
    }
    for name, (colour, found) in both.items():
        figure.add_bar(
            y=rows,
            x=[one.p50_ms for one in found],
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [max(0.0, one.p90_ms - one.p50_ms) for one in found],
                "arrayminus": [0.0] * len(found),
                "thickness": 1.2,
                "width": 4,
                "color": colour,
            },
            name=name,
            hovertext=[_tails(name, one) for one in found],
            hoverinfo="text",
        )
    _names(figure)
    figure.update_xaxes(title="Median time of one call (ms)", zeroline=False)
    return _lay_out(figure, _FRAME + _ROW * len(rows))


def _tails(name: str, one: Latency) -> str:
    return (
        f"<b>{name}</b> {fmt.how_timed(one)}<br>median {fmt.milliseconds(one.p50_ms)}<br>"
        f"9 of 10 below {fmt.milliseconds(one.p90_ms)}<br>"
        f"99 of 100 below {fmt.milliseconds(one.p99_ms)}"
    )


def sweep_figure(lines: Sequence[Line]) -> go.Figure:
    """Images a second by batch size, a panel for each number of threads."""
    threads = sorted({line.threads for line in lines})
    columns = min(len(threads), _PER_ROW)
    figure = make_subplots(
        rows=ceil(len(threads) / columns),
        cols=columns,
        shared_yaxes=True,
        subplot_titles=[fmt.threads(n) for n in threads],
        horizontal_spacing=0.04,
        vertical_spacing=0.2,
    )
    styles = _styles(list(dict.fromkeys(line.name for line in lines)))
    seen: set[str] = set()
    for line in lines:
        row, column = divmod(threads.index(line.threads), columns)
        _draw_line(figure, line, styles[line.name], (row + 1, column + 1), line.name not in seen)
        seen.add(line.name)
    batches = sorted({rate.batch for line in lines for rate in line.rates})
    figure.update_xaxes(
        title="Images in a batch",
        type="log",
        tickvals=batches,
        ticktext=[f"{b:g}" for b in batches],
    )
    shown = [rate.images_per_second for line in lines for rate in line.rates]
    figure.update_yaxes(title="Images a second", col=1)
    if max(shown) > _SPREAD * min(shown):
        figure.update_yaxes(type="log", dtick="D2", tickformat="~s")
        figure.update_yaxes(title="Images a second<br>(logarithmic scale)", col=1)
    else:
        figure.update_yaxes(rangemode="tozero", tickformat="~s")
    _lay_out(figure, _PANEL * ceil(len(threads) / columns) + 40)
    # the legend stands above the panels' names
    top = {"y": 1, "yref": "container", "yanchor": "top"}
    return figure.update_layout(margin={"t": 70}, legend=top)


def _styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and symbol of each line; the three usual ones are always the same."""
    usual = {
        "Original": (BEFORE, "circle"),
        "Compressed": (AFTER, "diamond"),
        "Compressed, float32": (AFTER, "diamond"),
        "Compressed, int8": (AFTER_INT8, "square"),
    }
    others = iter(zip(_MORE, _SYMBOLS, strict=True))
    return {n: usual.get(n) or next(others, (FRONT, "cross")) for n in names}


def _draw_line(
    figure: go.Figure, line: Line, style: tuple[str, str], place: tuple[int, int], named: bool
) -> None:
    colour, symbol = style
    figure.add_scatter(
        x=[rate.batch for rate in line.rates],
        y=[rate.images_per_second for rate in line.rates],
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"color": colour, "symbol": symbol, "size": 12 if colour == BEFORE else 8},
        name=line.name,
        legendgroup=line.name,
        showlegend=named,
        hovertext=[
            f"<b>{line.name}</b> batch {rate.batch}<br>"
            f"{fmt.number(rate.images_per_second)} images a second<br>"
            f"{fmt.milliseconds(rate.latency.p50_ms / rate.batch)} per image"
            for rate in line.rates
        ],
        hoverinfo="text",
        row=place[0],
        col=place[1],
    )


def layers_figure(bars: Sequence[Bar]) -> go.Figure:
    """Milliseconds of each layer, original above compressed."""
    figure = go.Figure()
    both: dict[str, tuple[str, Callable[[Bar], float | None]]] = {
        "Original": (BEFORE, lambda b: b.original),
        "Compressed": (AFTER, lambda b: b.compressed),
    }
    rows = [bar.name for bar in bars]
    for name, (colour, of) in both.items():
        figure.add_bar(
            y=rows,
            x=[of(bar) for bar in bars],
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            name=name,
            hovertext=[_time_of(bar, name, of(bar)) for bar in bars],
            hoverinfo="text",
        )
    _names(figure)
    figure.update_xaxes(title="Median time in the layer (ms)", zeroline=False)
    return _lay_out(figure, _FRAME + 30 * len(rows))


def _time_of(bar: Bar, name: str, time: float | None) -> str:
    shown = "not timed by itself" if time is None else fmt.milliseconds(time)
    return f"{bar.name} ({bar.kind})<br><b>{name}</b> {shown}"


def roofline_figure(
    original: Sequence[Spot], compressed: Sequence[Spot], roofs: Sequence[Roof]
) -> go.Figure:
    """MACs a second against MACs for each byte, under what this machine can do."""
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
            line={"color": "#d55e00", "width": 2, "dash": dash},
            name=f"Limit of this machine, {roof.numbers}",
            hoverinfo="skip",
        )
    for name, colour, symbol, found in (
        ("Original's layers", BEFORE, "circle", original),
        ("Compressed layers", AFTER, "diamond", compressed),
    ):
        _draw_spots(figure, name, colour, symbol, found)
    decades = {"type": "log", "dtick": 1, "tickformat": "~g", "zeroline": False}
    figure.update_xaxes(title="MACs for each byte moved (logarithmic scale)", **decades)
    figure.update_yaxes(title="Billion MACs a second (logarithmic scale)", **decades)
    _ticks(figure, shown)
    _lay_out(figure, 420)
    return figure.update_layout(margin={"l": 64})


def _ticks(figure: go.Figure, shown: Sequence[float]) -> None:
    if log10(max(shown) / min(shown)) < 2:
        figure.update_xaxes(dtick="D2")


def _draw_spots(
    figure: go.Figure, name: str, colour: str, symbol: str, found: Sequence[Spot]
) -> None:
    figure.add_scatter(
        x=[s.intensity for s in found],
        y=[s.rate / 1e9 for s in found],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 10, "line": {"width": 1}},
        name=name,
        hovertext=[
            f"{s.name}<br>{fmt.number(s.rate / 1e9)} billion MACs a second, "
            f"{fmt.percent(s.share)} of the most possible<br>{fmt.milliseconds(s.milliseconds)}"
            for s in found
        ],
        hoverinfo="text",
    )
