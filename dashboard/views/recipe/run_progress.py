"""How far a run is, and the button that stops it: in the panel, and in the list of runs."""

from __future__ import annotations

import time

import streamlit as st

from compression.runs.format import so_far
from compression.runs.results import ACTIVE, State
from compression.runs.store import StoredRun
from dashboard.numbers.queue import places, queue_of, seconds_left
from dashboard.state import actions, people, stored


def bar(entry: StoredRun) -> None:
    """The stage that a run is in and how much of the whole is done; or its place in the queue."""
    if entry.run.state is State.QUEUED:
        st.progress(0.0, text=_queued(entry))
        return
    fraction = entry.progress.fraction if entry.progress is not None else 0.0
    st.progress(min(max(fraction, 0.0), 1.0), text=under_way(entry, time.time()))


def under_way(entry: StoredRun, now: float) -> str:
    """How far a running run is, in words; `now` in seconds since 1970."""
    progress = entry.progress
    if progress is not None and progress.seconds_left is not None:
        # what reports nothing for a while goes on all the same
        left = seconds_left(progress.seconds_left, entry, now)
        progress = progress.model_copy(update={"seconds_left": left})
    if progress is None and entry.attempts > 1:
        parts = ["Starting again after its worker ended"]
    elif progress is None:
        parts = ["Starting"]
    else:
        parts = [so_far(progress)]
    if entry.attempts > 1:
        parts.append(f"attempt {entry.attempts}")
    return " · ".join(parts)


def _queued(entry: StoredRun) -> str:
    queue = queue_of(stored.store().runs.find(states=ACTIVE))
    place = places(queue, stored.seconds_of, time.time()).get(entry.run.id)
    words = place.words if place is not None else "Starting"  # claimed meanwhile
    return f"Its worker ended: {words[0].lower()}{words[1:]}" if entry.attempts else words


def stop_button(entry: StoredRun, key: str, *, stretch: bool = False) -> None:
    """A button that cancels the run, or stops its training and keeps the best model."""
    keeps = entry.progress is not None and entry.progress.keeps
    label = "Stopping" if entry.cancelling else "Stop and keep" if keeps else "Cancel"
    st.button(
        label,
        key=key,
        icon=":material/stop_circle:",
        on_click=_keep if keeps else actions.cancel,
        args=(entry.run.id,) if keeps else ([entry],),
        disabled=entry.cancelling or not actions.owns(entry),
        width="stretch" if stretch else "content",
        help=people.ONLY_ITS_OWNER
        if not actions.owns(entry)
        else "Ends training, restores the best model so far, finishes the recipe and measures the "
        "result."
        if keeps
        else None,
    )


def _keep(run_id: str) -> None:
    actions.change(lambda: _end_training(run_id))


def _end_training(run_id: str) -> None:
    """Stop training, unless it has ended meanwhile: then the measuring would be cancelled."""
    entry = stored.store().runs.get(run_id)
    if entry.progress is not None and entry.progress.keeps:
        stored.store().jobs.cancel(run_id)
    elif entry.run.state is State.QUEUED:
        actions.say("Its worker has ended; the run is queued again.")
    else:
        actions.say("Training has just ended on its own; the model is being measured now.")
