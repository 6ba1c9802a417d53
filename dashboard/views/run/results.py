"""All finished runs of the model in one chart, or what to start with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from compression.catalogue.cards import Card
from compression.catalogue.starting_points import starting_points
from compression.runs.results import ACTIVE, Run, State
from compression.runs.store import StoredRun
from dashboard.figures.style import CONFIG, picture
from dashboard.figures.trade_off import solid_figure, trade_off_figure
from dashboard.numbers import format as fmt
from dashboard.numbers import trade_off
from dashboard.numbers.measures import COLOURS, HORIZONTAL, MEASURES, VERTICAL
from dashboard.state import session
from dashboard.state.defaults import first_runs
from dashboard.state.form import Form, to_recipe

_CHART = "trade_off"


def show(card: Card, entries: list[StoredRun], chosen: StoredRun | None) -> None:
    """Draw the chart of all finished runs, or what to start with while there are none."""
    done = [e for e in entries if e.run.state is State.DONE and not e.hidden]
    if done:
        with st.container(border=True, key="trade_off_card", gap="xsmall"):
            _trade_off(card, done, chosen.run.id if chosen else None)
    elif not any(e.run.state in ACTIVE for e in entries):
        _empty(card)


def _empty(card: Card) -> None:
    starts = first_runs(
        session.page().form,
        session.weights_of(card),
        session.images(),
        starting_points(card.id),
    )
    with st.container(border=True, key="empty", horizontal_alignment="center"):
        st.space("small")
        st.markdown("## Nothing measured for this model yet", width="content")
        cost = " and what that costs in accuracy" if card.dataset else ""
        st.markdown(
            f"Start with one of these, or set your own on the left: each shows how small and fast "
            f"the model gets{cost}.",
            width="content",
        )
        with st.grid(len(starts), min_column_width=190):
            for place, (name, form) in enumerate(starts.items()):
                _start(card, place, name, form)


def _start(card: Card, place: int, name: str, form: Form) -> None:
    recipe = to_recipe(form)
    with st.container(border=True, height="stretch", vertical_alignment="distribute"):
        st.markdown(f"**{name}**  \n{fmt.shortened(recipe.sentence())}")
        st.button(
            "Run this",
            key=f"first_{place}",
            icon=":material/play_arrow:",
            on_click=session.queue,
            args=(card, recipe, form["device"]),
            width="stretch",
        )


def _trade_off(card: Card, entries: list[StoredRun], selected: str | None) -> None:
    done = [e.run for e in entries]
    names = {e.run.id: session.name_of(e) for e in entries}
    head = st.container(horizontal=True, vertical_alignment="top", gap="small")
    with head:
        title = st.container(width="stretch")
        with st.popover("Axes", icon=":material/tune:", type="tertiary", width="content"):
            x, y, colour = _axes({name: _any(done, name) for name in MEASURES})
            solid = st.toggle(
                "In three dimensions",
                key="solid",
                persist_state="session",
                help="The measure of the colour becomes a third axis. Drag to turn.",
            )
    chart = trade_off.trade_off(done, x, y, colour, names)
    notice = trade_off.notice(chart)
    title.markdown(f"**{chart.title}**  \n{notice}")
    st.plotly_chart(
        solid_figure(chart, selected) if solid else trade_off_figure(chart, selected),
        key=_CHART,
        on_select=_clicked,
        selection_mode="points",
        config=CONFIG | picture(f"{card.id} {chart.title}"),
        alt=f"{chart.title}. {notice}",
    )
    if chart.left_out:
        st.caption(
            f"{chart.left_out} finished runs lack one of the two figures; the table has them."
        )


def _any(done: list[Run], name: str) -> bool:
    return any(MEASURES[name].of(r)[1] is not None for r in done)


def _axes(has: dict[str, bool]) -> tuple[str, str, str]:
    y = _axis("Vertical axis", "y", [n for n in VERTICAL if has[n]])
    x = _axis("Horizontal axis", "x", [n for n in HORIZONTAL if has[n] and n != y])
    left = [n for n in COLOURS if has[n] and n not in (x, y)]
    colour = _axis("Colour", "colour", left or [x])
    return x, y, colour


def _axis(label: str, name: str, names: list[str]) -> str:
    """A choice that the address keeps."""
    key = f"axis_{name}"
    kept = session.kept(name)
    st.session_state[key] = kept if kept in names else names[0]
    chosen: str = st.selectbox(
        label,
        names,
        key=key,
        format_func=lambda n: MEASURES[n].title,
        help="\n".join(f"- **{MEASURES[n].title}**: {MEASURES[n].help}" for n in names),
        on_change=lambda: session.keep(name, st.session_state[key]),
    )
    return chosen


def _clicked() -> None:
    run_id = run_of(st.session_state.get(_CHART) or {})
    if run_id:
        session.select(run_id)


def run_of(event: Mapping[str, Any]) -> str | None:
    """The id of the run a click on the chart chose; None for the original or for no point."""
    for point in event.get("selection", {}).get("points", []):
        customdata = point.get("customdata")
        if customdata:
            return str(customdata[0])
    return None
