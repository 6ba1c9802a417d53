"""The selected run, all runs of the model in one chart, and what there is to open of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from compression.catalogue.cards import Card
from compression.runs.results import ACTIVE, Run, State
from compression.runs.store import StoredRun
from dashboard.figures.style import CONFIG
from dashboard.figures.trade_off import trade_off_figure
from dashboard.numbers import format as fmt
from dashboard.numbers import trade_off
from dashboard.numbers.measures import COLOURS, HORIZONTAL, MEASURES, VERTICAL
from dashboard.state import session
from dashboard.state.defaults import first_runs
from dashboard.state.form import Form, from_recipe, to_recipe
from dashboard.views.run import cards, sections, temperature_grid, training
from dashboard.views.run.details import ICONS

_CHART = "trade_off"


def show(card: Card, entries: list[StoredRun], chosen: StoredRun | None) -> None:
    """Draw the cards and the chart, or what to do when there is nothing yet."""
    done = [e.run for e in entries if e.run.state is State.DONE]
    if chosen is not None:
        _selected(card, chosen)
    if done:
        with st.container(border=True):
            _trade_off(done, chosen.run.id if chosen else None)
    elif not any(e.run.state in ACTIVE for e in entries):
        _empty(card)
    if chosen is not None:
        training.show(entries, chosen)
    temperature_grid.show(done, chosen.run if chosen else None)
    if chosen is not None:
        sections.show(chosen.run)


def _empty(card: Card) -> None:
    starts = first_runs(session.page().form, session.weights_of(card), session.images())
    with st.container(border=True, key="empty", horizontal_alignment="center"):
        st.space("small")
        st.markdown("#### Nothing measured for this model yet", width="content")
        cost = " and what that costs in accuracy" if card.dataset else ""
        st.markdown(
            f"Start with one of these, or set your own on the left: each shows how small and fast "
            f"the model gets{cost}.",
            width="content",
        )
        with st.grid(3, min_column_width=190):
            for name, form in starts.items():
                _start(card, name, form)


def _start(card: Card, name: str, form: Form) -> None:
    recipe = to_recipe(form)
    with st.container(border=True, height="stretch", vertical_alignment="distribute"):
        st.markdown(f"**{name}**  \n{fmt.shortened(recipe.sentence())}")
        st.button(
            f"Run {name.lower()}",
            key=f"first_{name.lower()}",
            icon=":material/play_arrow:",
            on_click=session.queue,
            args=(card, recipe, form["device"]),
            width="stretch",
        )


def _selected(card: Card, chosen: StoredRun) -> None:
    run = chosen.run
    _headline(run)
    if run.state is State.DONE and run.compressed is not None and run.delta is not None:
        cards.show(run, run.compressed, run.delta)
        for note in run.notes:
            st.caption(f":material/info: {note}")
    elif run.state is State.FAILED:
        st.error(f"**This run failed.** {_why(run)}", icon=":material/error:")
        _again(card, chosen)
    elif run.state is State.CANCELLED:
        st.info("This run was cancelled before it was measured.", icon=":material/cancel:")
        _again(card, chosen)


def _headline(run: Run) -> None:
    """Which run the cards are about, and a button that sets the sliders to its recipe."""
    icon, colour = ICONS[run.state]
    fits, example = from_recipe(run.recipe, session.page().form), session.example_of(run.id)
    with st.container(horizontal=True, vertical_alignment="center"):
        badge = f":{colour}-badge[:material/{icon}: {run.state.value}]"
        if run.stopped_early:
            badge += " :orange-badge[:material/stop_circle: stopped early]"
        if example is not None:
            badge += " :violet-badge[:material/bookmark: example]"
        st.markdown(
            f"**{run.recipe.sentence()}** {badge}  \n:small[:gray[Run {run.id}]]", width="stretch"
        )
        st.button(
            "Use these settings",
            key="use",
            icon=":material/tune:",
            on_click=session.put_form,
            args=(fits,),
            disabled=fits is None,
            help="Sets the sliders to what this run had."
            if fits
            else "The sliders cannot express a recipe with this order or number of steps.",
        )
    if example is not None:
        st.caption(f"**{example.title}.** {example.description}")


def _why(run: Run) -> str:
    return run.notes[-1] if run.notes else "No reason was stored."


def _again(card: Card, chosen: StoredRun) -> None:
    st.button(
        "Run it again",
        key="again",
        icon=":material/replay:",
        on_click=session.queue,
        args=(card, chosen.run.recipe, chosen.device),
    )


def _trade_off(done: list[Run], selected: str | None) -> None:
    has = {name: _any(done, name) for name in MEASURES}
    x, y, colour = _axes(has)
    chart = trade_off.trade_off(done, x, y, colour)
    st.markdown(f"**{chart.title}**  \n{trade_off.notice(chart)}")
    st.plotly_chart(
        trade_off_figure(chart, selected),
        key=_CHART,
        on_select=_clicked,
        selection_mode="points",
        config=CONFIG,
        alt=f"{chart.title}. {trade_off.notice(chart)}",
    )
    if chart.left_out:
        st.caption(
            f"{chart.left_out} finished runs lack one of the two figures; the table has them."
        )


def _any(done: list[Run], name: str) -> bool:
    return any(MEASURES[name].of(r)[1] is not None for r in done)


def _axes(has: dict[str, bool]) -> tuple[str, str, str]:
    with st.grid(3, min_column_width=150):
        y = _axis("Vertical axis", "axis_y", [n for n in VERTICAL if has[n]])
        x = _axis("Horizontal axis", "axis_x", [n for n in HORIZONTAL if has[n] and n != y])
        left = [n for n in COLOURS if has[n] and n not in (x, y)]
        colour = _axis("Colour", "axis_colour", left or [x])
    return x, y, colour


def _axis(label: str, key: str, names: list[str]) -> str:
    if st.session_state.get(key) not in names:
        st.session_state[key] = names[0]
    chosen: str = st.selectbox(
        label,
        names,
        key=key,
        persist_state="session",
        format_func=lambda n: MEASURES[n].title,
        help="\n".join(f"- **{MEASURES[n].title}**: {MEASURES[n].help}" for n in names),
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
