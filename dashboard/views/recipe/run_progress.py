"""How far a run is, and the button that stops it: in the panel, and in the list of runs."""

from __future__ import annotations

import streamlit as st

from compression.errors import CompressionError
from compression.runs.results import State
from compression.runs.store import StoredRun
from dashboard.numbers import format as fmt
from dashboard.state import session


def bar(entry: StoredRun) -> None:
    """The stage a run is in and how much of it is done."""
    fraction, text = progress(entry)
    st.progress(fraction, text=text)


def progress(entry: StoredRun) -> tuple[float, str]:
    """How much of the stage is done, from 0 to 1, and in words."""
    stage = entry.progress
    if entry.run.state is State.QUEUED:
        return 0.0, "Waiting for its turn"
    if stage is None:
        return 0.0, "Starting"
    fraction = min(max(stage.fraction, 0.0), 1.0)
    text = f"{stage.stage} · {100 * fraction:.0f} %"
    if stage.seconds_left is not None and stage.seconds_left >= 1:
        text += f" · about {fmt.duration(stage.seconds_left)} left"
    return fraction, text


def stop_button(entry: StoredRun, key: str, *, stretch: bool = False) -> None:
    """A button that cancels the run, or stops its training and keeps the best model."""
    keeps = entry.progress is not None and entry.progress.keeps
    label = "Stopping" if entry.cancelling else "Stop and keep" if keeps else "Cancel"
    st.button(
        label,
        key=key,
        icon=":material/stop_circle:",
        on_click=_keep if keeps else cancel,
        args=(entry.run.id,),
        disabled=entry.cancelling or not session.owns(entry),
        width="stretch" if stretch else "content",
        help="Only who asked for a run can end it."
        if not session.owns(entry)
        else "Ends training, restores the best model so far, finishes the recipe and measures the "
        "result."
        if keeps
        else None,
    )


def cancel(*run_ids: str) -> None:
    """Cancel runs. For callbacks."""
    try:
        for run_id in run_ids:
            session.store().jobs.cancel(run_id)
    except CompressionError as error:
        session.add_problem(str(error))


def _keep(run_id: str) -> None:
    """Stop training, unless it has ended meanwhile: then the measuring would be cancelled."""
    try:
        entry = session.store().runs.get(run_id)
        if entry.progress is not None and entry.progress.keeps:
            session.store().jobs.cancel(run_id)
        else:
            session.say("Training has just ended on its own; the model is being measured now.")
    except CompressionError as error:
        session.add_problem(str(error))
