"""How much to prune: by threshold, by sparsity, or as far as a drop of accuracy allows."""

from __future__ import annotations

import streamlit as st

from compression.catalogue.cards import Weights
from dashboard.figures.weight_histogram import cut, cut_figure, cut_notice
from dashboard.numbers import format as fmt
from dashboard.state import session
from dashboard.state.defaults import cuts_by_magnitude, round_threshold
from dashboard.state.form import AMOUNTS, SETTINGS, Form, student_of
from dashboard.views.recipe import widgets


def show(form: Form, weights: Weights | None) -> None:
    """Draw the switch, what says how much, its slider, and where that cuts."""
    amount, fixed = form["amount"], form["amount"] != "threshold" and ":" in form["pattern"]
    st.toggle(
        f"Pruning: {form['pattern'] if fixed else SETTINGS[amount].title.lower()}",
        key="prune",
        persist_state="session",
        on_change=session.adapt,
        help="Sets the least important weights to zero. Zeros make the file smaller, not the "
        "model faster; removing whole channels does both.",
    )
    off = not form["prune"]
    if fixed:
        keep, group = form["pattern"].split(":")
        st.caption(f"Of every {group} weights in a row, {keep} stay: sparsity is 50 %.")
    else:
        st.segmented_control(
            "Amount given as",
            [name for name in AMOUNTS if session.images() or not SETTINGS[name].images],
            key="amount",
            required=True,
            format_func=lambda name: SETTINGS[name].shown.short,
            on_change=_switch,
            args=(weights, amount),
            disabled=off,
            persist_state="session",
            width="stretch",
            label_visibility="collapsed",
        )
        if amount == "threshold":
            widgets.threshold_slider(weights, disabled=off)
        else:
            widgets.slider(amount, disabled=off)
        if not off:
            _cut(form, weights)


def _switch(weights: Weights | None, before: str) -> None:
    """Carry the same cut over from one way of giving the amount to the other."""
    now = st.session_state["amount"]
    if weights is not None and (before, now) == ("threshold", "sparsity"):
        share = weights.sparsity(st.session_state["threshold"])
        st.session_state["sparsity"] = min(round(share * 200) / 200, 1.0)
    elif weights is not None and now == "threshold":
        threshold = weights.threshold(st.session_state["sparsity"])
        st.session_state["threshold"] = round_threshold(threshold)
    session.adapt()


def _cut(form: Form, weights: Weights | None) -> None:
    if form["amount"] == "max_drop":
        st.caption(SETTINGS["max_drop"].help)
        return
    if not cuts_by_magnitude(form):
        st.caption(_uncut(form))
        return
    if student_of(form) is not None:
        st.caption("Where that cuts is known once the student has been trained.")
        return
    if weights is None:
        given = "sparsity" if form["amount"] == "threshold" else "threshold"
        st.caption(f"The {given} that this gives is shown after the model's first run.")
        return
    high, _step = widgets.threshold_range(weights)
    if form["amount"] == "sparsity":
        threshold = weights.threshold(form["sparsity"])
        text = f"Weights smaller than **{fmt.number(threshold)}** become zero"
    else:
        threshold = form["threshold"]
        text = f"**{fmt.percent(weights.sparsity(threshold))}** of the weights become zero"
    cut_at = cut(weights, threshold, high)
    st.markdown(text)
    st.plotly_chart(
        cut_figure(cut_at),
        key="cut",
        config={"displayModeBar": False, "staticPlot": True},
        alt=f"Weights by magnitude. {cut_notice(cut_at)}.",
    )


def _uncut(form: Form) -> str:
    """Why no threshold is shown."""
    if form["pattern"] == "channels":
        return "Whole channels are removed: the model gets smaller and faster."
    if form["score"] != "magnitude":
        return "The least important weights go, which are not always the smallest."
    if form["scope"] == "layer":
        return "Every layer has its own threshold."
    return "Sensitive layers keep more of their weights than others."
