"""What there is to know of the selected run, in tabs; only the open one is drawn."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from compression.errors import CompressionError
from compression.runs.results import ACTIVE, Run, State
from compression.runs.store import StoredRun
from dashboard.numbers import format as fmt
from dashboard.numbers.temperature_grid import grid_of
from dashboard.state import address, stored
from dashboard.views.run import (
    details,
    downloads,
    latency,
    size_and_speed,
    temperature_grid,
    training,
)

KEY = "tab"
Section = Callable[[list[StoredRun], StoredRun], None]


def _result(_: list[StoredRun], chosen: StoredRun) -> None:
    """What was done, how often both models agree, notes; then every figure and the recipe."""
    run = chosen.run
    example = stored.example_of(run.id)
    if example is not None:
        st.markdown(f"**{example.title}.** {example.description}")
    st.markdown(f"{run.recipe.sentence()}  \n:small[:gray[Run {run.id}]]")
    if run.delta is not None and run.delta.agreement is not None:
        share = fmt.percent(run.delta.agreement)
        agreement = f"The same label as the original for {share} of images"
        flips = run.delta.flips
        if flips is not None:
            agreement += (
                f"; {flips.right_to_wrong:,} turned wrong, {flips.wrong_to_right:,} turned right"
            )
        st.markdown(f"{agreement}.")
    for note in run.notes:
        st.caption(f":material/info: {fmt.typeset(note)}")
    details.section(run)


def _learned(entries: list[StoredRun], chosen: StoredRun) -> None:
    training.show(entries, chosen)
    temperature_grid.show(_done(entries), chosen.run)


def _done(entries: list[StoredRun]) -> list[Run]:
    return [e.run for e in entries if e.run.state is State.DONE]


# By title: what is in it, and whether it needs measurements.
TABS: dict[str, tuple[Section, bool]] = {
    "Result": (_result, False),
    "Size and speed": (lambda _, chosen: size_and_speed.section(chosen.run), True),
    "Training": (_learned, False),
    "Latency in depth": (lambda _, chosen: latency.section(chosen.run), True),
    "Download": (lambda _, chosen: downloads.section(chosen.run), True),
}


def show(entries: list[StoredRun], chosen: StoredRun) -> None:
    """The tabs of a run; those that need measurements only where there are some."""
    run = chosen.run
    if run.state in ACTIVE:
        return
    measured = run.state is State.DONE and run.compressed is not None
    trains = run.recipe.trains or grid_of(_done(entries), run) is not None
    titles = [
        title
        for title, (_, needs) in TABS.items()
        if (measured or not needs) and (title != "Training" or trains)
    ]
    with st.container(border=True, key="details"):
        st.fragment(_tabs, key="tabs_of_run")(titles, entries, chosen)


def _tabs(titles: list[str], entries: list[StoredRun], chosen: StoredRun) -> None:
    kept = address.kept(KEY)
    st.session_state[KEY] = kept if kept in titles else titles[0]
    tabs = st.tabs(titles, key=KEY, on_change=lambda: address.keep(KEY, st.session_state[KEY]))
    for title, tab in zip(titles, tabs, strict=True):
        if tab.open:
            with tab:
                try:
                    TABS[title][0](entries, chosen)
                except CompressionError as error:
                    st.error(str(error), icon=":material/error:")
