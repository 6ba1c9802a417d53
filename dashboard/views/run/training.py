"""How the selected run learned, beside other runs if wished."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from compression.errors import CompressionError
from compression.runs.results import ACTIVE, Run, State
from compression.runs.store import StoredRun
from dashboard.figures import training_curves
from dashboard.numbers import format as fmt
from dashboard.numbers import training_history
from dashboard.numbers.run_labels import beside, told_apart
from dashboard.state import session

MOST = len(training_curves.OVERLAYS)


def show(entries: list[StoredRun], chosen: StoredRun) -> None:
    """The section, if the run was trained and something of it was written down."""
    if not chosen.run.recipe.trains or chosen.run.state in ACTIVE:
        return
    own = training_history.learning(chosen.run, session.store().curves(chosen.run.id))
    if not any(stretch.points for stretch in own.stretches):
        return
    others = [
        e.run
        for e in reversed(entries)
        if e.run.state is State.DONE and e.run.recipe.trains and e.run.id != chosen.run.id
    ]
    with st.container(border=True, key="learned"):
        _section(chosen.run, own, others)


@st.fragment
def _section(run: Run, own: training_history.Learning, others: list[Run]) -> None:
    head = st.container()
    chosen = _choose(run, others)
    try:
        labels = told_apart([run, *chosen])
        overlays = [
            training_history.learning(r, session.store().curves(r.id), labels[r.id]) for r in chosen
        ]
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")
        return
    overlays = [o for o in overlays if o.looks]
    said = training_history.notice(own)
    if overlays:
        said += f" {training_history.compared(own, overlays)}"
    head.markdown(f"**How it learned: loss, validation accuracy and learning rate**  \n{said}")
    if len(own.stretches) > 1:
        head.caption(_steps(run, own))
    own = replace(own, label=labels[run.id])
    last = max(r.end for r in (own, *overlays)) or 1.0
    with st.container(gap=None):
        for name, figure in {
            "Loss": training_curves.loss_figure(own, last, titled=False),
            "Validation accuracy": training_curves.accuracy_figure(
                own, last, titled=False, others=overlays
            ),
            "Learning rate": training_curves.rate_figure(own, last),
        }.items():
            st.plotly_chart(
                figure,
                key=f"curve_{name}",
                config={"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]},
                alt=f"{name} by epoch. {said}",
            )
    if len(overlays) < len(chosen):
        st.caption("Nothing was written down of how the other chosen runs learned.")


def _steps(run: Run, own: training_history.Learning) -> str:
    steps = [f"Step {s.at + 1}: {run.recipe.steps[s.at].sentence()}" for s in own.stretches]
    return fmt.shortened("; ".join(steps)) + "."


def _choose(run: Run, others: list[Run]) -> list[Run]:
    """Other trained runs to draw beside this one; which ones is in the URL."""
    known = {other.id: other for other in others}
    if not known:
        return []
    wanted = [run_id for run_id in session.compared() if run_id in known]
    st.session_state["compare"] = wanted[:MOST]
    chosen: list[str] = st.multiselect(
        "Compare with",
        list(known),
        key="compare",
        format_func=lambda run_id: beside(run, known[run_id]),
        max_selections=MOST,
        select_all=False,
        placeholder="Other trained runs of this model",
        on_change=_compare,
        width="stretch",
    )
    return [known[run_id] for run_id in chosen]


def _compare() -> None:
    session.compare(st.session_state["compare"])
