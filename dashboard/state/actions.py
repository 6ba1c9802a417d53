"""What a person does to the store, and whether they may: queue, cancel, name, delete runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from compression.catalogue.cards import Card
from compression.errors import CompressionError
from compression.recipe.recipe import Recipe
from compression.runs.results import Run, State
from compression.runs.store import StoredRun, new_run
from dashboard.state import address, people, session, stored
from dashboard.state.form import Form
from dashboard.state.rules import rules

_MESSAGE = "message"
_REMOVED = "removed_run"
_REFUSED = "refused"


def say(sentence: str) -> None:
    """Show a short message once, when the page is drawn next."""
    st.session_state[_MESSAGE] = sentence


def message() -> str:
    """The message to show now; none the next time."""
    text: str = st.session_state.pop(_MESSAGE, "")
    return text


def person() -> str:
    """The id of the browser that looks at the page; empty where it has none."""
    return people.person_of(st.context.cookies)


def visitor() -> people.Visitor:
    """Who looks at the page, and whether they are the admin."""
    token = rules().admin_token
    return people.Visitor(person(), people.is_admin(st.context.cookies, token), bool(token))


def owns(entry: StoredRun) -> bool:
    """Whether the person may cancel, rename, pin, hide or delete the run.

    Where not, the widget that does it is disabled; Streamlit's server then refuses it too.
    """
    return visitor().may_change(entry.owner)


def names() -> Mapping[str, str]:
    """What people are called, by id.

    Raises:
        StoreError: the store cannot be read.
    """
    state = session.current_page()
    return people.names(stored.store()) if state is None else state.names


def asked_for_by(entry: StoredRun) -> str:
    """Who asked for a run, if that was somebody else; empty if not.

    Raises:
        StoreError: the store cannot be read.
    """
    return "" if entry.owner in ("", person()) else people.shown_name(entry.owner, names())


def queue(card: Card, recipe: Recipe, device: str) -> None:
    """Put a run in the queue and select it; one that somebody else has asked for already is not
    done twice. For callbacks."""
    run = new_run(card.id, card.dataset, recipe)
    for entry in _add((run,), device):
        address.select(entry.run.id)
        waits = entry.run.state is State.QUEUED
        already = f"Just this is {'queued' if waits else 'being measured'} already."
        say("Queued." if entry.run.id == run.id else already)


def queue_all(card: Card, recipes: Sequence[Recipe], device: str) -> None:
    """Put several runs in the queue, or none where that is more than one person may have there."""
    added = _add([new_run(card.id, card.dataset, recipe) for recipe in recipes], device)
    if added:
        say(f"{len(added)} runs queued.")


def _add(runs: Sequence[Run], device: str) -> list[StoredRun]:
    who = visitor()
    most = None if who.admin else rules().runs_per_person
    st.session_state.pop(_REFUSED, None)
    try:
        return stored.store().runs.add_all_once(runs, device, who.person, most)
    except CompressionError as error:
        _refuse(str(error))
        return []


def change(what: Callable[[], None]) -> None:
    """Change something in the store; what is in the way is said beside Run. For callbacks."""
    st.session_state.pop(_REFUSED, None)
    try:
        what()
    except CompressionError as error:
        _refuse(str(error))


def cancel(entries: Sequence[StoredRun]) -> None:
    """Cancel runs. For callbacks."""

    def act() -> None:
        for entry in entries:
            stored.store().jobs.cancel(entry.run.id)

    change(act)


def remove(run_id: str) -> None:
    """Delete a run; `removed` names it until something else is done, so that it can come back."""

    def act() -> None:
        stored.store().runs.remove(run_id)
        st.session_state[_REMOVED] = run_id
        address.select(None)

    change(act)


def _refuse(sentence: str) -> None:
    st.session_state[_REFUSED] = (sentence, session.form())


def refused() -> str:
    """Why what was asked for last could not be done, until something else is or is set."""
    refusal: tuple[str, Form] | None = st.session_state.get(_REFUSED)
    return refusal[0] if refusal is not None and refusal[1] == session.form() else ""


def removed() -> str | None:
    """The run that was deleted last and can be restored."""
    run_id: str | None = st.session_state.get(_REMOVED)
    return run_id


def restore() -> None:
    """Bring back the run that was deleted last."""
    run_id = removed()
    if run_id is not None:
        change(lambda: stored.store().runs.restore(run_id))
        st.session_state.pop(_REMOVED)
        address.select(run_id)
