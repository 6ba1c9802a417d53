"""Latency by backend, and throughput by batch size and threads."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from compression.catalogue.backends import title
from compression.runs.results import Latency, Timing
from dashboard.figures.style import (
    COMPRESSED,
    FRONT,
    GREEN,
    ORANGE,
    ORIGINAL,
    PINK,
    SKY,
    VERMILION,
    error_bars,
    lay_out_rows,
    name_rows,
)
from dashboard.numbers import format as fmt
from dashboard.numbers.backend_timings import Kind, Line

_STYLES: dict[Kind, tuple[str, str]] = {
    "original": (ORIGINAL, "circle"),
    "compressed": (COMPRESSED, "diamond"),
    "int8": (ORANGE, "square"),
}
_MORE = ((GREEN, "square"), (PINK, "triangle-up"), (SKY, "x"), (VERMILION, "star"))
_SPREAD = 8.0
_PER_ROW, _PANEL = 3, 300
_ROW, _FRAME = 46, 92


def backends_figure(timings: Sequence[Timing]) -> go.Figure:
    """Median milliseconds of both models in each backend; lines reach to the 90th percentile."""
    rows = [title(t.backend) for t in timings]
    figure = go.Figure()
    models: dict[str, tuple[str, list[Latency]]] = {
        "Original": (ORIGINAL, [t.baseline for t in timings]),
        "Compressed": (COMPRESSED, [t.compressed for t in timings]),
    }
    for name, (colour, latencies) in models.items():
        figure.add_bar(
            y=rows,
            x=[one.p50_ms for one in latencies],
            orientation="h",
            marker={"color": colour, "line": {"width": 0}},
            error_x=error_bars(
                [one.p50_ms for one in latencies],
                [(one.p50_ms, one.p90_ms) for one in latencies],
                colour,
            ),
            name=name,
            hovertext=[_tails(name, one) for one in latencies],
            hoverinfo="text",
        )
    name_rows(figure)
    figure.update_xaxes(title="Median time of one call (ms)", zeroline=False)
    return lay_out_rows(figure, _FRAME + _ROW * len(rows))


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
    styles = _styles(lines)
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
    lay_out_rows(figure, _PANEL * ceil(len(threads) / columns) + 40)
    # the legend stands above the panels' names
    top = {"y": 1, "yref": "container", "yanchor": "top"}
    return figure.update_layout(margin={"t": 70}, legend=top)


def _styles(lines: Sequence[Line]) -> dict[str, tuple[str, str]]:
    """Colour and symbol by name: those of its kind, unless several names are of that kind."""
    kinds = {line.name: line.kind for line in lines}
    kind_of = list(kinds.values())
    more = iter(_MORE)
    return {
        name: _STYLES[kind] if kind_of.count(kind) == 1 else next(more, (FRONT, "cross"))
        for name, kind in kinds.items()
    }


def _draw_line(
    figure: go.Figure, line: Line, style: tuple[str, str], place: tuple[int, int], named: bool
) -> None:
    colour, symbol = style
    figure.add_scatter(
        x=[rate.batch for rate in line.rates],
        y=[rate.images_per_second for rate in line.rates],
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"color": colour, "symbol": symbol, "size": 12 if colour == ORIGINAL else 8},
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
