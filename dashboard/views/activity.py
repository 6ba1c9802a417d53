"""Runs under way: how far they are, and Cancel."""

from __future__ import annotations

import streamlit as st

from compression.catalogue import Card
from compression.errors import CompressionError
from compression.run import ACTIVE, State
from compression.store import Entry
from dashboard import format as fmt
from dashboard import state

_BUSY_SECONDS, _IDLE_SECONDS = 1.0, 5.0


def show(card: Card, entries: list[Entry]) -> None:
    """Watch the store: often while something runs, now and then for runs begun elsewhere."""
    busy = any(e.run.state in ACTIVE for e in entries)
    states = {e.run.id: str(e.run.state) for e in entries}
    every = _BUSY_SECONDS if busy else _IDLE_SECONDS
    st.fragment(_watch, run_every=every, key="activity")(card.id, states)


def _watch(model: str, drawn: dict[str, str]) -> None:
    try:
        entries = state.store().entries(model)
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")
        return
    if {e.run.id: str(e.run.state) for e in entries} != drawn:
        st.rerun()  # a run began or ended: the cards, the chart and the table change too
    for entry in entries:
        if entry.run.state in ACTIVE:
            with st.container(
                border=True,
                key=f"active_{entry.run.id}",
                horizontal=True,
                vertical_alignment="center",
            ):
                _one(entry)


def _one(entry: Entry) -> None:
    fraction, text = _progress(entry)
    with st.container():
        st.markdown(entry.run.recipe.sentence())
        st.progress(fraction, text=text)
    st.button(
        "Stopping" if entry.cancelling else "Cancel",
        key=f"cancel_{entry.run.id}",
        icon=":material/stop_circle:",
        on_click=_cancel,
        args=(entry.run.id,),
        disabled=entry.cancelling,
        width="content",
    )


def _progress(entry: Entry) -> tuple[float, str]:
    """How much of the stage is done, from 0 to 1, and in words."""
    progress = entry.progress
    if entry.run.state is State.QUEUED:
        return 0.0, "Waiting for its turn"
    if progress is None:
        return 0.0, "Starting"
    fraction = min(max(progress.fraction, 0.0), 1.0)
    text = f"{progress.stage} · {100 * fraction:.0f} %"
    if progress.seconds_left is not None and progress.seconds_left >= 1:
        text += f" · about {fmt.duration(progress.seconds_left)} left"
    return fraction, text


def _cancel(run_id: str) -> None:
    try:
        state.store().cancel(run_id)
    except CompressionError as error:
        state.add_problem(str(error))
