"""The finer settings of distillation, in four groups: a wall of them would hide each other."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from compression.catalogue.cards import cards
from dashboard.state import session
from dashboard.state.form import SETTINGS, Form, without_effect
from dashboard.views.recipe import widgets

_UNSET = {"early_stopping": "Never", "images": "All of them"}


def show(form: Form, off: bool) -> None:
    """One tab a group."""
    for tab, rows in zip(st.tabs(list(GROUPS)), GROUPS.values(), strict=True):
        with tab:
            for row in rows:
                _row(form, [name for name in row if _in_effect(form, name)], off)


def _row(form: Form, names: list[str], off: bool) -> None:
    """One setting, or two small ones side by side."""
    if len(names) < 2:
        for name in names:
            _widget(form, name, off)
        return
    for column, name in zip(st.columns(2, gap="small"), names, strict=False):
        with column:
            _widget(form, name, off)


def _in_effect(form: Form, name: str) -> bool:
    if name == "mixup":
        return bool(form["loss"] != "dkd")  # which needs one right class
    if name == "grid":  # weights are on a grid only after they were quantized
        on_grid = form["quantize"] and form["student"] is None
        return bool(on_grid or form["grid"] != SETTINGS["grid"].default)
    return without_effect(form, name) is None


def _widget(form: Form, name: str, off: bool) -> None:
    if name in _OWN:
        _OWN[name](off)
    elif name in _UNSET:
        widgets.optional_entry(name, _UNSET[name], off)
    elif SETTINGS[name].choices:
        widgets.choice(form, name, off, session.adapt)
    else:
        widgets.entry(name, off)


def _student(off: bool) -> None:
    setting, known = SETTINGS["student"], cards()
    offered = ["", *session.students()]
    st.selectbox(
        setting.title,
        offered,
        key="student",
        format_func=lambda m: known[m].title if m else "This model itself",
        help=setting.help,
        disabled=off or len(offered) < 2,
        on_change=session.adapt,
        persist_state="session",
    )
    if st.session_state["student"] and not off:
        st.caption("It is taught first; pruning and rounding then act on it.")


def _layers(off: bool) -> None:
    setting = SETTINGS["layers"]
    st.text_input(
        setting.title,
        key="layers",
        help=setting.help,
        placeholder="The end of every stage",
        disabled=off,
        persist_state="session",
    )


_OWN: dict[str, Callable[[bool], None]] = {"student": _student, "layers": _layers}
GROUPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "Match": (("loss",), ("alpha",), ("other_classes",), ("layer_weight",), ("layers",)),
    "Learn": (
        ("epochs", "batch_size"),
        ("images",),
        ("optimizer",),
        ("learning_rate", "momentum"),
        ("schedule",),
        ("decay", "decay_epochs", "patience"),
        ("warmup",),
    ),
    "Regularise": (
        ("weight_decay", "l1"),
        ("label_smoothing", "mixup"),
        ("early_stopping",),
        ("batchnorm",),
        ("dropout",),
    ),
    "More": (("student",), ("initial",), ("augmentation",), ("grid",), ("precision",)),
}
