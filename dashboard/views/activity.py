"""Runs under way: how far they are, their training curves so far, and a way to stop them."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

from compression.catalogue.cards import Card
from compression.errors import CompressionError
from compression.runs.progress import Point
from compression.runs.results import ACTIVE, Run, State
from compression.runs.store import StoredRun
from dashboard.figures import training_curves
from dashboard.numbers import format as fmt
from dashboard.numbers.training_history import training_history
from dashboard.state import actions, session, stored
from dashboard.views.recipe import run_progress

_BUSY_SECONDS, _IDLE_SECONDS = 1.0, 5.0
_MOST_WAITING = 2
_FIGURES = 7


def show(card: Card, entries: list[StoredRun]) -> None:
    """Watch the store: often while something runs, now and then for runs begun elsewhere."""
    busy = any(e.run.state in ACTIVE for e in entries)
    every = _BUSY_SECONDS if busy else _IDLE_SECONDS
    st.fragment(_watch, run_every=every, key="activity")(card.id, _states(entries, busy), busy)


def _states(entries: Iterable[StoredRun], busy: bool) -> dict[str, str]:
    return {e.run.id: str(e.run.state) for e in entries if not busy or e.run.state in ACTIVE}


def _watch(model: str, drawn: dict[str, str], busy: bool) -> None:
    try:
        page = session.current_page()
        if page is not None:  # the whole page is being drawn: what it was drawn from is fresh
            entries = list(page.runs)
        else:  # while something runs, finished runs need not be read every second
            entries = stored.store().runs.find(model, ACTIVE if busy else ())
        if _states(entries, busy) != drawn:
            st.rerun()  # a run began or ended: the cards, the chart and the table change too
        active = [e for e in entries if e.run.state in ACTIVE]
        _list(active)
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")


def _list(active: list[StoredRun]) -> None:
    """Running runs in full, and the first that wait; of many that wait, only their number."""
    running = [e for e in active if e.run.state is State.RUNNING]
    waiting = [e for e in active if e.run.state is State.QUEUED]
    few = waiting if len(waiting) <= _MOST_WAITING else waiting[: _MOST_WAITING - 1]
    for entry in (*running, *few):
        with st.container(border=True, key=f"active_{entry.run.id}"):
            _one(entry)
    if rest := waiting[len(few) :]:
        mine = [e for e in rest if actions.owns(e) and not actions.asked_for_by(e)]
        with st.container(border=True, key="waiting", horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{len(rest)} more runs** are waiting for their turn.", width="stretch")
            st.button(
                "Cancel these" if len(mine) == len(rest) else f"Cancel yours ({len(mine)})",
                key="cancel_waiting",
                icon=":material/stop_circle:",
                on_click=actions.cancel,
                args=(mine,),
                disabled=not mine,
                width="content",
            )


def _one(entry: StoredRun) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container():
            whose = fmt.asked_for_by(actions.asked_for_by(entry))
            st.markdown(f"**{fmt.escaped(stored.name_of(entry))}**{whose}")
            run_progress.bar(entry)
        run_progress.stop_button(entry, f"cancel_{entry.run.id}")
    point = entry.progress.point if entry.progress else None
    if point is not None:
        _figures(point)
    if entry.run.recipe.trains and point is not None:
        _curve(entry.run)


def figures(point: Point) -> list[tuple[str, str]]:
    """The figures of one moment of training, each with its name; those that are known."""
    shown = [(fmt.number(point.epoch), "epochs done")]
    losses = {
        "loss": point.loss,
        "hard loss (labels)": point.hard,
        "soft loss (original)": point.soft,
    }
    shown += [(fmt.number(value), what) for what, value in losses.items() if value is not None]
    if point.top1 is not None:
        low, high = (fmt.number(100 * end) for end in (point.top1.low, point.top1.high))
        shown.append((fmt.percent(point.top1.value), f"validation, {low} to {high}"))
    shown.append((fmt.number(point.learning_rate), "learning rate"))
    if point.images_per_second is not None:
        shown.append((fmt.number(point.images_per_second), "images per second"))
    return shown


def _figures(point: Point) -> None:
    with st.grid(_FIGURES, min_column_width=96, gap="small"):
        for figure, what in figures(point):
            st.markdown(f"**{figure}**  \n:small[:gray[{what}]]")


def _curve(run: Run) -> None:
    history = training_history(run, stored.store().curves.get(run.id))
    if not any(len(step.points) > 1 for step in history.steps):
        return
    end = history.planned
    figures = {
        "loss": training_curves.loss_figure(history, end, height=240),
        "accuracy": training_curves.accuracy_figure(history, end, height=240),
    }
    with st.grid(len(figures), min_column_width=300, key=f"live_{run.id}"):
        for name, figure in figures.items():
            st.plotly_chart(
                figure,
                key=f"live_{name}_{run.id}",
                config={"displayModeBar": False},
                alt=f"{name.title()} so far, by epoch",
            )
