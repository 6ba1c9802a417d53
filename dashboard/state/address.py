"""The address: which run is looked at and how, beside the settings that the form keeps there.

What a session put there last is kept in its state. With every action the browser sends the address
that it shows, and when one action follows another at once that is still the one before: taken from
there, the run just started would lose its place to the one before it. Only where a person went back
or forward is the browser's address the newer one.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from compression.runs.store import StoredRun
from dashboard.state.form import Form
from dashboard.state.url import ORIGINAL, to_params

_PARAMS = "address"
_PROBLEMS = "url_problems"
# What of the URL is no setting of the form.
_KEPT = (
    *("run", "compare", "x", "y", "colour", "solid", "tab", "size"),
    *("whose", "hidden", "states", "words"),
)


def receive() -> None:
    """Take the browser's address: once a session, and where a person went back or forward in it.

    At the start of every drawing of the page.
    """
    context, given = get_script_run_ctx(), st.query_params.to_dict()
    moved = context is not None and context.is_history_navigation
    if _PARAMS not in st.session_state or (moved and given):  # other pages have no parameters
        st.session_state[_PARAMS] = given


def _put(params: dict[str, str]) -> None:
    st.session_state[_PARAMS] = params
    if st.query_params.to_dict() != params:
        st.query_params.from_dict(params)


def url_problems() -> tuple[str, ...]:
    """What was wrong with the URL, until it is dismissed."""
    problems: tuple[str, ...] = st.session_state.get(_PROBLEMS, ())
    return problems


def put_problems(sentences: tuple[str, ...]) -> None:
    """Report on the page just these."""
    st.session_state[_PROBLEMS] = sentences


def add_problem(sentence: str) -> None:
    """Report on the page that something in the URL could not be used."""
    if sentence not in url_problems():
        put_problems((*url_problems(), sentence))


def forget_problems() -> None:
    """Dismiss them."""
    put_problems(())


def write_url(model: str, now: Form) -> None:
    """Write the page's settings to the URL, beside what is kept there."""
    choices = {name: value for name in _KEPT if (value := kept(name)) is not None}
    _put({"model": model, **to_params(now), **choices})


def select(run_id: str | None) -> None:
    """Choose a run, by its id, or none."""
    keep("run", run_id)


def kept(name: str) -> str | None:
    """A choice that the address keeps beside the settings: an axis, the open tab."""
    params: dict[str, str] = st.session_state[_PARAMS]
    return params.get(name)


def keep(name: str, value: str | None) -> None:
    """Put such a choice in the address, or take it out."""
    others = {k: v for k, v in st.session_state[_PARAMS].items() if k != name}
    _put(others if value is None else {**others, name: value})


def presenting() -> bool:
    """Whether the page is as large as a projector needs it."""
    return kept("size") == "large"


def present(large: bool) -> None:
    """Make it so, or as it was. For callbacks."""
    keep("size", "large" if large else None)


def compared() -> tuple[str, ...]:
    """The ids of the runs whose curves are drawn beside the selected one's."""
    return tuple(dict.fromkeys(filter(None, (kept("compare") or "").split(","))))


def compare(run_ids: Sequence[str]) -> None:
    """Choose the runs whose curves are drawn beside."""
    keep("compare", ",".join(run_ids) or None)


def selected(entries: Sequence[StoredRun], best: str | None = None) -> StoredRun | None:
    """The run the address names; if it names none, the best or else the newest finished one, which
    it names from then on: a run that somebody else finishes later never takes its place. None if
    it names the original.
    """
    if original_selected():
        return None
    run_id = kept("run")
    named = [e for e in entries if e.run.id == run_id]
    if named:
        return named[0]
    done = [e for e in entries if e.run.state == "done" and not e.hidden]
    if not done:
        return None
    first = next((e for e in done if e.run.id == best), done[-1])
    select(first.run.id)
    return first


def original_selected() -> bool:
    """Whether the original is looked at in the place of a run."""
    return kept("run") == ORIGINAL
