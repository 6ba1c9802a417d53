"""Training curves of the selected run, beside those of other runs if chosen."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from compression.errors import CompressionError
from compression.runs.results import ACTIVE, Run, State
from compression.runs.store import StoredRun
from dashboard.figures import training_curves
from dashboard.figures.style import CONFIG
from dashboard.numbers import format as fmt
from dashboard.numbers.run_labels import distinct_labels, label_beside
from dashboard.numbers.training_history import (
    TrainingHistory,
    comparison_notice,
    notice,
    training_history,
)
from dashboard.state import address, stored

MOST = len(training_curves.OVERLAYS)
_TITLES = {
    "loss": "Loss",
    "accuracy": "Validation accuracy",
    "learning_rate": "Learning rate",
}


def show(entries: list[StoredRun], chosen: StoredRun) -> None:
    """The section, if the run was trained and its curves were stored."""
    if not chosen.run.recipe.trains or chosen.run.state in ACTIVE:
        return
    history = training_history(chosen.run, stored.store().curves.get(chosen.run.id))
    if not any(step.points for step in history.steps):
        return
    others = [
        e.run
        for e in reversed(entries)
        if e.run.state is State.DONE and e.run.recipe.trains and e.run.id != chosen.run.id
    ]
    with st.container(border=True, key="learned"):
        _section(chosen.run, history, others)


@st.fragment
def _section(run: Run, history: TrainingHistory, others: list[Run]) -> None:
    head = st.container()
    chosen = _choose(run, others)
    try:
        labels = distinct_labels([run, *chosen])
        overlays = [
            training_history(r, stored.store().curves.get(r.id), labels[r.id]) for r in chosen
        ]
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")
        return
    overlays = [o for o in overlays if o.checks]
    sentences = notice(history)
    if overlays:
        sentences += f" {comparison_notice(history, overlays)}"
    head.markdown(f"**Training: loss, validation accuracy and learning rate**  \n{sentences}")
    if len(history.steps) > 1:
        head.caption(_steps(run, history))
    _draw(replace(history, label=labels[run.id]), overlays, sentences)
    if len(overlays) < len(chosen):
        st.caption("Some of the chosen runs have no validation accuracy during training.")


def _draw(history: TrainingHistory, overlays: list[TrainingHistory], sentences: str) -> None:
    end = max(r.end for r in (history, *overlays)) or 1.0
    figures = {
        "loss": training_curves.loss_figure(history, end, titled=False),
        "accuracy": training_curves.accuracy_figure(history, end, titled=False, others=overlays),
        "learning_rate": training_curves.rate_figure(history, end),
    }
    with st.container(gap=None):
        for key, figure in figures.items():
            st.plotly_chart(
                figure,
                key=f"curve_{key}",
                config=CONFIG,
                alt=f"{_TITLES[key]} by epoch. {sentences}",
            )


def _steps(run: Run, history: TrainingHistory) -> str:
    steps = [f"Step {s.at + 1}: {run.recipe.steps[s.at].sentence()}" for s in history.steps]
    return fmt.shortened("; ".join(steps)) + "."


def _choose(run: Run, others: list[Run]) -> list[Run]:
    """Other trained runs to draw beside this one; which ones is in the URL."""
    runs = {other.id: other for other in others}
    if not runs:
        return []
    compared = [run_id for run_id in address.compared() if run_id in runs]
    st.session_state["compare"] = compared[:MOST]
    chosen: list[str] = st.multiselect(
        "Compare with",
        list(runs),
        key="compare",
        format_func=lambda run_id: label_beside(run, runs[run_id]),
        max_selections=MOST,
        select_all=False,
        placeholder="Other trained runs of this model",
        on_change=_compare,
        width="stretch",
    )
    return [runs[run_id] for run_id in chosen]


def _compare() -> None:
    address.compare(st.session_state["compare"])
