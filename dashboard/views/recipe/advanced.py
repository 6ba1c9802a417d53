"""The finer settings of every step, as their declarations place them.

A setting that has no effect beside the others is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from compression.catalogue.cards import cards
from dashboard.state import session
from dashboard.state.form import KEYS, SETTINGS, Form, choices, without_effect
from dashboard.views.recipe import widgets

OPEN = "finer"
TITLES = {"prune": "Pruning", "quantize": "Bit width", "distill": "Distillation"}
_LAST = "More"


def show(form: Form, more: Mapping[str, Callable[[], None]]) -> None:
    """The expander with a tab for each step; drawn when it is open, values are kept anyway.

    Args:
        form: the settings as they are.
        more: what else belongs into a tab, below its settings, by step; or a tab of its own.
    """
    expander = st.expander("Finer settings", type="compact", key=OPEN, on_change="rerun")
    if not expander.open:
        return
    with expander:
        steps = [*KEYS, *(name for name in more if name not in KEYS)]
        for step, tab in zip(steps, st.tabs([TITLES.get(s, s) for s in steps]), strict=True):
            with tab:
                if step in KEYS:
                    _step(form, step)
                if step in more:
                    more[step]()


def _step(form: Form, step: str) -> None:
    off = not form[step] or (step == "distill" and not session.images())
    if step == "prune" and form["amount"] == "threshold":
        st.caption(
            "A threshold compares single weights, alike in every layer. Choose Sparsity for other "
            "patterns and scores."
        )
    _groups(form, step, off)
    if step != "distill" and not session.images():
        st.caption("Settings that need images are left out: this model has none here.")


def unfold() -> None:
    """Open it, so that there is something to set by hand."""
    st.session_state[OPEN] = True


def groups(step: str) -> dict[str, list[list[str]]]:
    """The keys of a step's finer settings in rows, by group; the general group comes last."""
    keys = [k for k in KEYS[step].values() if not SETTINGS[k].shown.main]
    names = dict.fromkeys(SETTINGS[k].shown.group for k in keys)
    return {
        group: _rows([k for k in keys if SETTINGS[k].shown.group == group])
        for group in sorted(names, key=lambda name: name == _LAST)
    }


def _rows(keys: Sequence[str]) -> list[list[str]]:
    rows = sorted({SETTINGS[k].shown.row for k in keys})
    return [[k for k in keys if SETTINGS[k].shown.row == row] for row in rows]


def _groups(form: Form, step: str, off: bool) -> None:
    """One tab a group, where there are several: a wall of settings would hide each other."""
    by_group = groups(step)
    places = st.tabs(list(by_group)) if len(by_group) > 1 else [st.container()]
    for place, rows in zip(places, by_group.values(), strict=True):
        with place:
            for row in rows:
                _row(form, [key for key in row if _visible(form, key)], off)


def _row(form: Form, keys: list[str], off: bool) -> None:
    """One setting, or two small ones side by side."""
    if len(keys) < 2:
        for key in keys:
            _widget(form, key, off)
        return
    for column, key in zip(st.columns(2, gap="small"), keys, strict=False):
        with column:
            _widget(form, key, off)


def _visible(form: Form, key: str) -> bool:
    setting = SETTINGS[key]
    if without_effect(form, key) is not None or (setting.images and not session.images()):
        return False
    if key == "grid":  # weights have scales only after they were quantized
        quantized = form["quantize"] and form["student"] is None
        return bool(quantized or form["grid"] != setting.default)
    few = 1 if setting.several else 2
    return not setting.choices or len(choices(form, key, session.images())) >= few


def _widget(form: Form, key: str, off: bool) -> None:
    if key in _SPECIAL:
        _SPECIAL[key](form, off)
    else:
        widgets.widget(form, key, off)


def _average_bits(form: Form, off: bool) -> None:
    st.toggle(
        "Mixed precision",
        key="mixed",
        disabled=off,
        on_change=_mix,
        persist_state="session",
        help=SETTINGS["average_bits"].help,
    )
    if form["mixed"]:
        widgets.entry("average_bits", off, most=float(form["bits"]))


def _mix() -> None:
    """Keep the bit width as the average, and let layers have up to eight bits."""
    if st.session_state["mixed"]:
        st.session_state["average_bits"] = float(st.session_state["bits"])
        st.session_state["bits"] = 8
    else:
        st.session_state["bits"] = round(st.session_state["average_bits"])
    session.adapt()


def _student(form: Form, off: bool) -> None:
    setting, known = SETTINGS["student"], cards()
    offered = ["", *session.students()]
    st.selectbox(
        setting.title,
        offered,
        key="student",
        format_func=lambda m: known[m].title if m else setting.shown.unset,
        help=setting.help,
        disabled=off or len(offered) < 2,
        on_change=session.adapt,
        persist_state="session",
    )
    if form["student"] and not off:
        st.caption("It is trained first; pruning and quantization then compress it.")


# Settings whose widget needs more than their declaration.
_SPECIAL: dict[str, Callable[[Form, bool], None]] = {
    "average_bits": _average_bits,
    "student": _student,
}
