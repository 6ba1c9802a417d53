"""Who uses the page: whose runs are shown, and what others call whoever looks at it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from compression.runs.results import State
from compression.runs.store import StoredRun
from compression.runs.stored_run import public_id
from dashboard.state import actions, address, people, stored
from dashboard.state.rules import rules

_WHOSE = "whose"


def shown(entries: Sequence[StoredRun]) -> list[StoredRun]:
    """The runs that chart and table show: everybody's, or those of whom the address names."""
    whose = _whose()
    return people.runs_of(entries, whose) if whose else list(entries)


def _whose() -> str:
    """Whose runs are shown, by their public id; empty for everybody's."""
    kept = address.kept(_WHOSE)
    if kept is None or people.is_public_id(kept):
        return kept or ""
    address.add_problem(f"whose: {kept!r} is nobody. Showing everybody's runs instead.")
    address.keep(_WHOSE, None)
    return ""


def choose(entries: Sequence[StoredRun]) -> None:
    """The choice whose runs are shown, where there are several people's; the address keeps it, and
    means the same person whoever opens it."""
    whose, me = _whose(), actions.person()
    if not whose and not _others(entries):
        return
    st.session_state[_WHOSE] = whose
    options = _options(whose, me)
    st.segmented_control(
        "Whose runs",
        list(options),
        key=_WHOSE,
        required=True,
        format_func=options.__getitem__,
        on_change=lambda: address.keep(_WHOSE, st.session_state[_WHOSE] or None),
        label_visibility="collapsed",
    )


def _options(whose: str, me: str) -> dict[str, str]:
    """What can be chosen, by what the address calls it: one more person where it names one."""
    options = {"": "All runs"} | ({public_id(me): "Mine"} if me else {})
    if whose not in options:
        names = {public_id(person): name for person, name in actions.names().items()}
        options[whose] = names.get(whose, f"Guest {whose[:4]}")
    return options


def hides_all(entries: Sequence[StoredRun], shown: Sequence[StoredRun]) -> bool:
    """Whether there are results for this model, and none of them is of whom is chosen."""
    return _measured(entries) and not _measured(shown)


def _measured(entries: Sequence[StoredRun]) -> bool:
    return any(e.run.state is State.DONE and not e.hidden for e in entries)


def show_nothing() -> None:
    """In the place of the chart, where all results are somebody else's."""
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="nothing"):
        mine = address.kept(_WHOSE) == public_id(actions.person())
        who = "You have" if mine else "This person has"
        st.markdown(f"{who} no result for this model yet.", width="stretch")
        st.button("Show all runs", key="show_all", on_click=address.keep, args=(_WHOSE, None))


def _others(entries: Sequence[StoredRun]) -> bool:
    return bool(people.owners(entries) - {actions.person()})


def you(entries: Sequence[StoredRun]) -> None:
    """What others call this person, and the one place where they say it: where there are others, or
    may be."""
    me = actions.visitor()
    name = people.name_of(stored.store(), me.person) if me.person else ""
    if not (name or me.admin or rules().shared or _others(entries)):
        return
    with st.popover(
        name or "You", icon=":material/person:", type="tertiary", width="content", key="you"
    ):
        if me.admin:
            st.caption(":material/shield_person: You are the admin: you can change every run here.")
        if not me.person:
            st.caption(
                "Your browser keeps no cookies, so the page cannot tell which runs are yours."
            )
            return
        if "own_name" not in st.session_state:  # what is typed stays until it is stored
            st.session_state["own_name"] = name
        st.text_input(
            "Your name",
            key="own_name",
            max_chars=60,
            placeholder=people.shown_name(me.person, {}),
            help="Others who share this page see it beside your runs. It stays with this browser.",
            on_change=lambda: actions.change(
                lambda: people.keep_name(stored.store(), me.person, st.session_state["own_name"])
            ),
        )
