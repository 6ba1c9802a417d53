"""How a model's weights are distributed by magnitude, and where a threshold cuts them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import plotly.graph_objects as go

from compression.catalogue.cards import Weights
from dashboard.figures.style import COMPRESSED, FRONT, STAR
from dashboard.numbers import format as fmt


@dataclass(frozen=True)
class Cut:
    """A histogram of weights by magnitude, and where a threshold cuts it.

    `density[i]` is the share of the weights around `magnitudes[i]`, relative to the highest bar;
    `sparsity` is the fraction of all weights below `threshold`.
    """

    magnitudes: tuple[float, ...]
    density: tuple[float, ...]
    threshold: float
    sparsity: float


def cut(weights: Weights, threshold: float, high: float, bins: int = 60) -> Cut:
    """The histogram from 0 to the magnitude `high`, from the stored quantiles."""
    edges = [high * i / bins for i in range(bins + 1)]
    below = [weights.sparsity(edge) for edge in edges]
    mass = [b - a for a, b in pairwise(below)]
    top = max(mass) or 1.0
    return Cut(
        tuple((a + b) / 2 for a, b in pairwise(edges)),
        tuple(max(0.0, m) / top for m in mass),
        threshold,
        weights.sparsity(threshold),
    )


def cut_notice(numbers: Cut) -> str:
    """What the cut does, as the rest of a sentence."""
    return f"{fmt.percent(numbers.sparsity)} of the weights become zero"


def cut_figure(numbers: Cut) -> go.Figure:
    """Bars of the weights by magnitude: grey ones become zero, blue ones stay."""
    colours = [FRONT if m < numbers.threshold else COMPRESSED for m in numbers.magnitudes]
    width = 2 * numbers.magnitudes[0]
    bars = {
        "type": "bar",
        "x": numbers.magnitudes,
        "y": numbers.density,
        "width": width,
        "marker": {"color": colours, "line": {"width": 0}},
        "hoverinfo": "skip",
    }
    line = {
        "type": "line",
        "x0": numbers.threshold,
        "x1": numbers.threshold,
        "y0": 0,
        "y1": 1,
        "xref": "x",
        "yref": "y domain",
        "line": {"color": STAR, "width": 2},
    }
    magnitude = {
        "range": [0, width * len(numbers.magnitudes)],
        "fixedrange": True,
        "nticks": 5,
        "showgrid": False,
    }
    # Drawn at every move of a slider: all at once, for each `update_...` takes as long as this.
    return go.Figure(
        [bars],
        {
            "height": 80,
            "margin": {"l": 4, "r": 12, "t": 2, "b": 22},
            "showlegend": False,
            "bargap": 0,
            "shapes": [line],
            "xaxis": magnitude,
            "yaxis": {"visible": False, "fixedrange": True, "range": [0, 1.05]},
        },
    )
