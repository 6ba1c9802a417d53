"""The trade-off chart as a picture for a slide or a report: titled, light, large, PNG or SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from dashboard.figures.style import COMPRESSED, FRONT, RING, SCALE, STAR, reach
from dashboard.numbers.measures import Bounds, Measure
from dashboard.numbers.trade_off import (
    ORIGINAL,
    ORIGINAL_SIDE,
    Point,
    TradeOff,
    logarithmic,
    notice,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Kind = Literal["png", "svg"]
_INCHES, _DOTS_PER_INCH = (12.8, 7.2), 200
_LINE = 115  # letters
_TEXT, _MUTED = "#1f2933", "#52606d"


def trade_off_picture(chart: TradeOff, model: str, selected: str | None, kind: Kind) -> bytes:
    """The chart as a file of 2560 x 1440 pixels (PNG), or of that shape (SVG).

    Args:
        model: what the title calls the model.
        selected: the id of the run that gets a ring, or `ORIGINAL`.
    """
    import matplotlib

    # names of what is in the file are made of a salt: with one of ours it is the same each time
    with matplotlib.rc_context({"svg.hashsalt": "trade-off"}):
        file = BytesIO()
        trade_off_drawing(chart, model, selected).savefig(
            file, format=kind, metadata=_metadata(kind)
        )
    return file.getvalue()


def trade_off_drawing(chart: TradeOff, model: str, selected: str | None) -> Figure:
    """What `trade_off_picture` puts into the file."""
    # only who asks for a picture waits for the library
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 13, "text.color": _TEXT}):
        figure = Figure(_INCHES, dpi=_DOTS_PER_INCH, facecolor="white")
        axes = figure.add_axes((0.08, 0.12, 0.88, 0.65))
        figure.text(0.03, 0.935, f"{model}: {chart.title.lower()}", size=20, weight="bold")
        subtitle = textwrap.fill(notice(chart), _LINE)
        figure.text(0.03, 0.905, subtitle, size=13, color=_MUTED, va="top", linespacing=1.4)
        _draw(figure, axes, chart, selected)
    return figure


def _metadata(kind: Kind) -> dict[str, str | None]:
    # without a date the same runs give the same bytes
    return {"Date": None} if kind == "svg" else {}


def _draw(figure: Figure, axes: Axes, chart: TradeOff, selected: str | None) -> None:
    _axes(axes, chart)
    front = [p for p in chart.front if not chart.collapsed(p)]
    if len(front) > 1:
        axes.plot(
            *_at(chart, front),
            drawstyle="steps-post",
            linestyle=":",
            color=FRONT,
            linewidth=2,
            label="Best so far (Pareto front)",
        )
    _runs(figure, axes, chart, chart.shown)
    below = [p for p in chart.points if chart.collapsed(p)]
    if below:
        label = "Collapsed, below the chart"
        axes.scatter(*_at(chart, below), marker="v", s=110, color=FRONT, zorder=3, label=label)
    if chart.original is not None:
        star = _at(chart, [chart.original])
        axes.scatter(*star, marker="*", s=380, color=STAR, edgecolor="white", zorder=4)
    for point in chart.everything:
        if (point.run_id or ORIGINAL) == selected:
            axes.scatter(*_at(chart, [point]), s=480, facecolor="none", edgecolor=RING, lw=2.5)
    _names(axes, chart)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 0.99), ncols=3, frameon=False, fontsize=12
        )


def _axes(axes: Axes, chart: TradeOff) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.grid(color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(which="both", length=0, colors=_MUTED)
    sides = (
        (chart.x, [p.x for p in chart.everything], axes.set_xlabel, axes.set_xscale, axes.xaxis),
        (chart.y, [p.y for p in chart.everything], axes.set_ylabel, axes.set_yscale, axes.yaxis),
    )
    for measure, values, label, scale, axis in sides:
        label(measure.label, color=_MUTED, labelpad=10)
        if logarithmic(measure, values):
            scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    if chart.everything:
        axes.set_xlim(*(end * chart.x.scale for end in chart.x_range))
    axes.margins(y=0.12)


def _at(chart: TradeOff, points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Where points are drawn, in the units of the axes; what collapsed, at the floor."""
    return (
        [p.x * chart.x.scale for p in points],
        [chart.drawn_y(p) * chart.y.scale for p in points],
    )


def _runs(figure: Figure, axes: Axes, chart: TradeOff, points: Sequence[Point]) -> None:
    if not points:
        return
    x, y = _at(chart, points)
    axes.errorbar(
        x,
        y,
        xerr=_reach(points, chart.x, lambda p: p.x, lambda p: p.x_bounds),
        yerr=_reach(points, chart.y, lambda p: p.y, lambda p: p.y_bounds),
        fmt="none",
        ecolor=FRONT,
        elinewidth=1.2,
        capsize=3,
    )
    label = "Run, with 95 % interval"
    more: dict[str, Any] = {"s": 120, "edgecolor": "white", "zorder": 3, "label": label}
    if not chart.coloured:
        axes.scatter(x, y, color=COMPRESSED, **more)
        return
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("runs", list(SCALE))
    values = [(p.colour or 0.0) * chart.colour.scale for p in points]
    drawn = axes.scatter(x, y, c=values, cmap=colours, **more)
    bar = figure.colorbar(drawn, ax=axes, pad=0.02, fraction=0.03, label=chart.colour.label)
    bar.outline.set_visible(False)


def _reach(
    points: Sequence[Point],
    measure: Measure,
    at: Callable[[Point], float],
    bounds: Callable[[Point], Bounds | None],
) -> list[list[float]]:
    """How far each interval reaches below and above its point, in the unit of the axis."""
    values = [at(p) * measure.scale for p in points]
    intervals = [bounds(p) for p in points]
    scaled = [i and (i[0] * measure.scale, i[1] * measure.scale) for i in intervals]
    return list(reach(values, scaled))


def _names(axes: Axes, chart: TradeOff) -> None:
    original = {chart.original: ORIGINAL_SIDE} if chart.original else {}
    for point, side in (chart.labels | original).items():
        left = "left" in side
        (x,), (y,) = _at(chart, [point])
        axes.annotate(
            point.name,
            (x, y),
            xytext=(-10 if left else 10, 8 if "top" in side else -18),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=13,
        )
