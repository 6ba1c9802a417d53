"""The finer settings under each slider: how a step works, and what is rarely asked for.

A setting that has no effect as the others stand is not shown.
"""

from __future__ import annotations

import streamlit as st

from compression.recipe.presets import method_settings
from dashboard.state import session
from dashboard.state.form import (
    KEYS,
    SETTINGS,
    Form,
    choices,
    without_effect,
)
from dashboard.views.recipe import distillation, widgets

OPEN = {"prune": "finer_prune", "quantize": "finer_quantize", "distill": "finer_distill"}
_TITLES = {"prune": "pruning", "quantize": "bit width", "distill": "distillation"}


def show(form: Form, step: str, off: bool) -> None:
    """The fold of one step; what is in it is drawn when it is open, its values are kept anyway."""
    title = f"Finer settings for {_TITLES[step]}"
    fold = st.expander(title, type="compact", key=OPEN[step], on_change="rerun")
    if not fold.open:
        return
    with fold:
        _CONTENTS[step](form, off)
        if step != "distill" and not session.images():
            st.caption("Left out: whatever needs images, for there are none for this model here.")
        st.space("small")


def open_all() -> None:
    """Open the expanders of the steps that are on, so that there is something to set by hand."""
    for step in ("prune", "quantize"):
        st.session_state[OPEN[step]] = bool(st.session_state[step])


def _choices(form: Form, step: str, names: tuple[str, ...], off: bool) -> None:
    for name in names:
        key = KEYS[step][name]
        few = 1 if SETTINGS[key].several else 2
        if without_effect(form, key) is None and len(choices(form, key, session.images())) >= few:
            changed = session.name_method if name in method_settings(step) else session.adapt
            widgets.choice(form, key, off, changed)


def _prune(form: Form, off: bool) -> None:
    if form["amount"] == "threshold":
        st.caption(
            "A threshold looks at single weights, in every layer alike. Choose Sparsity above "
            "for other patterns and scores."
        )
    _choices(form, "prune", ("pattern",), off)
    if without_effect(form, "round_to") is None:
        widgets.entry("round_to", off)
    _choices(form, "prune", ("score", "scope", "update", "repair"), off)


def _quantize(form: Form, off: bool) -> None:
    if session.images():
        widgets.optional_share("keep_accuracy", "Not asked for", off)
        _choices(form, "quantize", ("margin",), off)
        if without_effect(form, "rate") is None:
            widgets.entry("rate", off)
    _choices(form, "quantize", ("rounding", "repair"), off)
    by_rate = without_effect(form, "clipping") is not None
    if session.images() and not by_rate:
        st.toggle(
            "Different bits per layer",
            key="mixed",
            disabled=off,
            on_change=_mix,
            persist_state="session",
            help="Sensitive layers get more bits, the others fewer, so that the average is kept.",
        )
    if form["mixed"] and not by_rate:
        widgets.entry("average_bits", off, high=float(form["bits"]))
        _choices(form, "quantize", ("sensitivity",), off)
    if not by_rate:
        widgets.optional_bits("edge_bits", "Same as the others", (8,), off)
    _choices(form, "quantize", ("clipping", "scheme", "granularity", "equalization", "rest"), off)
    if session.images():
        widgets.optional_bits("activation_bits", "Not rounded (float32)", (8, 7, 6, 5, 4), off)
    _choices(form, "quantize", ("activation_clipping", "activation_granularity"), off)


def _mix() -> None:
    """Keep the bits that were asked for as the average, and let layers have up to eight."""
    if st.session_state["mixed"]:
        st.session_state["average_bits"] = float(st.session_state["bits"])
        st.session_state["bits"] = 8
    else:
        st.session_state["bits"] = round(st.session_state["average_bits"])
    session.adapt()


_CONTENTS = {"prune": _prune, "quantize": _quantize, "distill": distillation.show}
