"""Which temperature: what a grid of runs that differ in temperature and alpha came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from compression.runs.results import Run
from dashboard.figures.style import CONFIG
from dashboard.figures.temperature_grid import grid_figure
from dashboard.numbers import format as fmt
from dashboard.numbers import temperature_grid
from dashboard.state import address

_CHART, _TABLE = "temperatures", "temperature_table"


def show(runs: Sequence[Run], chosen: Run | None) -> None:
    """The section, if there are runs that differ in temperature and alpha only."""
    grid = temperature_grid.grid_of(runs, chosen)
    if grid is None:
        return
    selected = chosen.id if chosen is not None else None
    notice = temperature_grid.notice(grid)
    with st.container(border=True, key="which_temperature"):
        st.markdown(f"**Which temperature? Accuracy against temperature, by alpha**  \n{notice}")
        st.plotly_chart(
            grid_figure(grid, selected),
            key=_CHART,
            on_select=_clicked,
            selection_mode="points",
            config=CONFIG,
            alt=f"Accuracy against temperature, a line for each alpha. {notice}",
        )
        st.caption(
            "Alpha is the weight of the soft loss, on the original's logits; the hard loss, on the "
            "labels, has the rest. Bars are 95 % intervals of the change from the original on the "
            "same images."
        )
        st.dataframe(
            table(grid),
            hide_index=True,
            key=_TABLE,
            height="content",
            on_select=lambda: _picked(grid),
            selection_mode="single-cell",
            alt="Accuracy by temperature and alpha",
        )


def table(grid: temperature_grid.Grid) -> pd.DataFrame:
    """Accuracy in percent, a row for each temperature, a column for each alpha."""
    accuracy = {(c.temperature, c.alpha): fmt.percent(c.accuracy) for c in grid.cells}
    rows = [
        {"Temperature": f"T = {t:g}"}
        | {_column(a): accuracy.get((t, a), fmt.DASH) for a in grid.alphas}
        for t in grid.temperatures
    ]
    return pd.DataFrame(rows)


def _column(alpha: float) -> str:
    return f"Alpha {alpha:g}"


def _picked(grid: temperature_grid.Grid) -> None:
    event = st.session_state.get(_TABLE) or {}
    alphas = {_column(alpha): alpha for alpha in grid.alphas}
    runs = {(cell.temperature, cell.alpha): cell.run for cell in grid.cells}
    for row, column in (event.get("selection") or {}).get("cells", []):
        run = runs.get((grid.temperatures[row], alphas.get(column, -1.0)))
        if run is not None:
            address.select(run.id)


def _clicked() -> None:
    event: Mapping[str, Any] = st.session_state.get(_CHART) or {}
    for point in event.get("selection", {}).get("points", []):
        if point.get("customdata"):
            address.select(str(point["customdata"][0]))
