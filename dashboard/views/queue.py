"""The whole queue: every run that is under way or waits on this store, of all models."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from compression.catalogue.cards import cards
from compression.errors import CompressionError
from compression.runs.results import ACTIVE
from compression.runs.store import StoredRun
from dashboard.numbers import format as fmt
from dashboard.numbers.queue import Queue, places, queue_of
from dashboard.state import actions, people, stored
from dashboard.views.recipe import run_progress
from dashboard.views.runs_table import table_key

_SECONDS = 3.0


def show(model: str) -> None:
    """Watch the queue, and draw it where it is more than one run of the model that is shown."""
    st.fragment(_watch, run_every=_SECONDS, key="watch_queue")(model)


def _watch(model: str) -> None:
    try:
        queue = queue_of(stored.store().runs.find(states=ACTIVE))
        if queue.length > 1 or any(e.run.model != model for e in queue.running + queue.waiting):
            _draw(queue)
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")


def _draw(queue: Queue) -> None:
    with st.container(border=True, key="queue"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Queue:** {queue.sentence(actions.person())}.", width="stretch")
            if not st.toggle("Show the queue", key="show_queue", persist_state="session"):
                return
        names = actions.names()
        for entry in queue.running:
            st.markdown(_described(entry, names))
            run_progress.bar(entry)
        if queue.waiting:
            _waiting(queue, names)


def _described(entry: StoredRun, names: Mapping[str, str]) -> str:
    whose = fmt.asked_for_by(_owner(entry, names))
    return f"**{fmt.escaped(stored.name_of(entry))}** · {_title(entry)}{whose}"


def _waiting(queue: Queue, names: Mapping[str, str]) -> None:
    """A table of the runs that wait, and a button that cancels those that are ticked."""
    waiting = queue.waiting
    event = st.dataframe(
        frame(queue, names, time.time()),
        key=table_key("queue", [e.run.id for e in waiting]),
        hide_index=True,
        column_config=_COLUMNS,
        on_select="rerun",
        selection_mode="multi-row",
        placeholder=fmt.DASH,
        alt="Runs that wait, the next one first",
    )
    chosen = [waiting[row] for row in event["selection"]["rows"]]
    if not chosen:
        return
    others = not all(map(actions.owns, chosen))
    st.button(
        "Cancel this run" if len(chosen) == 1 else f"Cancel these {len(chosen)} runs",
        key="cancel_chosen",
        icon=":material/stop_circle:",
        on_click=actions.cancel,
        args=(chosen,),
        disabled=others,
        help=people.ONLY_ITS_OWNER if others else None,
    )


def frame(queue: Queue, names: Mapping[str, str], now: float) -> pd.DataFrame:
    """One row a run that waits, in the order in which they are done; `now` in seconds since
    1970."""
    starts = places(queue, stored.seconds_of, now)
    rows = [
        {
            "place": starts[entry.run.id].place,
            "starts_in": _starts_in(starts[entry.run.id].seconds),
            "name": stored.name_of(entry),
            "model": _title(entry),
            "asked_for_by": _owner(entry, names) or None,
            "since": datetime.fromtimestamp(entry.created, UTC),
            "page": f"/?{urlencode({'model': entry.run.model, 'run': entry.run.id})}",
        }
        for entry in queue.waiting
    ]
    return pd.DataFrame(rows)


def _starts_in(seconds: float | None) -> str | None:
    return None if seconds is None else f"about {fmt.about(seconds)}"


def _title(entry: StoredRun) -> str:
    card = cards().get(entry.run.model)
    return card.title if card is not None else entry.run.model


def _owner(entry: StoredRun, names: Mapping[str, str]) -> str:
    if entry.owner and entry.owner == actions.person():
        return "you"
    return people.shown_name(entry.owner, names) if entry.owner else ""


_COLUMNS = {
    "place": st.column_config.NumberColumn("Place", width=60),
    "starts_in": st.column_config.TextColumn("Starts in", width=100),
    "name": st.column_config.TextColumn("Run", width=200),
    "model": st.column_config.TextColumn("Model", width="medium"),
    "asked_for_by": st.column_config.TextColumn("Asked for by", width=120),
    "since": st.column_config.DatetimeColumn("Waiting since", format="D MMM, HH:mm"),
    "page": st.column_config.LinkColumn("Page", display_text="Open", width=70),
}
