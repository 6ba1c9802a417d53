"""How much to prune: by threshold, by sparsity, or as far as a loss of accuracy allows."""

from __future__ import annotations

import streamlit as st

from compression.catalogue.cards import Weights
from dashboard.figures.weight_histogram import cut, cut_figure, cut_notice
from dashboard.numbers import format as fmt
from dashboard.state import session
from dashboard.state.defaults import cuts_by_magnitude, round_threshold
from dashboard.state.form import Form, taught
from dashboard.views.recipe import advanced, widgets

_AMOUNTS = {
    "threshold": ("Threshold", "Pruning threshold"),
    "sparsity": ("Sparsity", "Pruning sparsity"),
    "max_drop": ("Largest loss", "Largest loss by pruning"),
}


def show(form: Form, weights: Weights | None) -> None:
    """Draw the switch, how much is said by what, its slider, and where that cuts."""
    amount, fixed = form["amount"], form["amount"] != "threshold" and ":" in form["pattern"]
    st.toggle(
        f"**Pruning {form['pattern']}**" if fixed else f"**{_AMOUNTS[amount][1]}**",
        key="prune",
        persist_state="session",
        on_change=session.adapt,
        help="Sets the weights that matter least to zero. Zeros make the file smaller; they do "
        "not make it faster. Removing whole channels does both.",
    )
    off = not form["prune"]
    if fixed:
        keep, group = form["pattern"].split(":")
        st.caption(f"Of every {group} weights in a row, {keep} stay: sparsity is 50 %.")
    else:
        st.segmented_control(
            "How much is said by",
            [name for name in _AMOUNTS if session.images() or name != "max_drop"],
            key="amount",
            required=True,
            format_func=lambda name: _AMOUNTS[name][0],
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
    advanced.show(form, "prune", off)


def _switch(weights: Weights | None, before: str) -> None:
    """Carry the same cut from one way of saying it to the other."""
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
        st.caption("Prunes as much as it can before validation accuracy falls by more than this.")
        return
    if not cuts_by_magnitude(form):
        st.caption(_uncut(form))
        return
    if taught(form) is not None:
        st.caption("Where that cuts is known once the student has been taught.")
        return
    if weights is None:
        given = "sparsity" if form["amount"] == "threshold" else "threshold"
        st.caption(f"The {given} that this gives is shown after the model's first run.")
        return
    high, _step = widgets.threshold_range(weights)
    if form["amount"] == "sparsity":
        threshold = weights.threshold(form["sparsity"])
        words = f"Weights smaller than **{fmt.number(threshold)}** become zero"
    else:
        threshold = form["threshold"]
        words = f"**{fmt.percent(weights.sparsity(threshold))}** of the weights become zero"
    numbers = cut(weights, threshold, high)
    st.markdown(words)
    st.plotly_chart(
        cut_figure(numbers),
        key="cut",
        config={"displayModeBar": False, "staticPlot": True},
        alt=f"Weights by magnitude. {cut_notice(numbers)}.",
    )


def _uncut(form: Form) -> str:
    """Why no threshold is shown."""
    if form["pattern"] == "channels":
        return "Whole channels are removed: the model gets smaller and faster."
    if form["score"] != "magnitude":
        return "Which weights go depends on more than their magnitude, so there is no threshold."
    if form["scope"] == "layer":
        return "Every layer gets a threshold of its own."
    return "Sensitive layers keep more of their weights than others."
