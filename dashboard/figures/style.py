"""What figures share: colours, the legend, intervals as error bars."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from compression.recipe.short_name import slug

# Of the tool bar over every figure.
_REMOVED = ["select2d", "lasso2d"]
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": _REMOVED}
# For a figure that has a picture of its own to download.
WITHOUT_CAMERA = CONFIG | {"modeBarButtonsToRemove": [*_REMOVED, "toImage"]}

# Readable on white and on near-black, and ordered for every common form of colour blindness.
SCALE = ((0.0, "#2b7bba"), (0.5, "#7fa3a8"), (1.0, "#e69f00"))
STAR, FRONT, RING = "#d55e00", "#7d8894", "#cc3f8f"
ORIGINAL, COMPRESSED = FRONT, SCALE[0][1]
# Of the palette of Okabe and Ito (2008), which every form of colour blindness tells apart.
ORANGE, GREEN, PINK, SKY, VERMILION = "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
# At the top of the figure, not of the plot: one that moves with the plot is left behind when a
# narrow window becomes wide.
LEGEND = {
    "orientation": "h",
    "x": 0,
    "yref": "container",
    "y": 1,
    "yanchor": "top",
    "itemclick": False,
}

Bounds = tuple[float, float]


def picture(title: str) -> dict[str, object]:
    """What the camera button gives: a large picture whose file is named after what it shows."""
    size = {"format": "png", "width": 1600, "height": 900, "scale": 2}
    return {"toImageButtonOptions": {"filename": slug(title), **size}}


def reach(
    values: Sequence[float | None], intervals: Sequence[Bounds | None]
) -> tuple[list[float], list[float]]:
    """How far each interval reaches below and above its value: 0 where one of the two is None, or
    on a side where the interval does not reach beyond the value."""
    above, below = [], []
    for value, interval in zip(values, intervals, strict=True):
        at = value or 0.0
        low, high = (at, at) if value is None or interval is None else interval
        above.append(max(0.0, high - at))
        below.append(max(0.0, at - low))
    return below, above


def error_bars(
    values: Sequence[float | None],
    intervals: Sequence[Bounds | None],
    colour: str,
    width: int = 4,
) -> dict[str, object]:
    """Plotly's error bars from each value to both ends of its interval, in the axis's unit.

    No bar where a value or its interval is None, or on a side where the interval does not reach
    beyond the value.
    """
    below, above = reach(values, intervals)
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "thickness": 1.2,
        "width": width,
        "color": colour,
    }


def lay_out_rows(figure: go.Figure, height: int) -> go.Figure:
    """The figure at this height in pixels, with the frame that all figures of latency have."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 36, "b": 48},
        legend=LEGEND,
        hoverlabel={"align": "left"},
        hovermode="closest",
        bargap=0.35,
        bargroupgap=0.08,
    )
    return figure


def name_rows(figure: go.Figure) -> None:
    """Rows are read from the top, and their names get the room they need."""
    figure.update_yaxes(
        autorange="reversed", automargin=True, showgrid=False, fixedrange=True, ticksuffix="  "
    )
