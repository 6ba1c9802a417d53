"""Widgets made from a recipe's settings: ranges, units and help come from there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import streamlit as st

from compression.catalogue.cards import Weights
from dashboard.state import session
from dashboard.state.choice_labels import word
from dashboard.state.form import SETTINGS, Form, choices

_COARSE = {"temperature": 0.5, "sparsity": 0.005, "max_drop": 0.1}
_FORMATS = {"sparsity": "percent", "bits": "%d bits", "temperature": "T = %g"}
_ENTRIES = {
    "learning_rate": 0.005,
    "average_bits": 0.25,
    "other_classes": 1.0,
    "layer_weight": 1.0,
    "decay_epochs": 0.5,
    "weight_decay": 1e-4,
    "l1": 1e-5,
    "rate": 0.5,
    "mixup": 0.1,
}
_ENTRY, _SMALLEST = 0.05, {"learning_rate": 1e-4, "decay": 0.01, "decay_epochs": 0.1}
_DEFAULT_THRESHOLD_RANGE = 0.1
_MOST_POINTS = 5.0
UNSET = 0


def threshold_range(weights: Weights | None) -> tuple[float, float]:
    """Highest threshold the slider offers, and its step: 200 to 500 steps of a round size.

    The top is where hardly a weight is left (99.8 %).
    """
    high = weights.threshold(0.998) if weights else _DEFAULT_THRESHOLD_RANGE
    high = high if high > 0 else _DEFAULT_THRESHOLD_RANGE
    rough = high / 200
    place = 10.0 ** math.floor(math.log10(rough))
    step = max(m * place for m in (1.0, 2.0, 5.0) if m * place <= rough)
    return round(math.ceil(high / step) * step, 12), step


def threshold_slider(weights: Weights | None, disabled: bool) -> None:
    """The headline slider of pruning, over the magnitudes this model's weights have."""
    setting = SETTINGS["threshold"]
    high, step = threshold_range(weights)
    value = float(st.session_state["threshold"])
    if value > high:  # from the URL: allowed, but beyond what the slider would offer
        high = math.ceil(value / step) * step
    digits = max(0, -math.floor(math.log10(step)))
    st.slider(
        setting.title,
        0.0,
        high,
        step=step,
        format=f"%.{digits}f",
        key="threshold",
        help=setting.help,
        disabled=disabled,
        persist_state="session",
        label_visibility="collapsed",
    )


def slider(name: str, disabled: bool = False, on_change: Callable[[], None] | None = None) -> None:
    """A headline slider over the whole allowed range."""
    setting = SETTINGS[name]
    low, high = setting.low or 0, setting.high or 1
    kind: Callable[[float], Any] = int if setting.integer else float
    step = 1 if setting.integer else _COARSE[name]
    if name == "temperature":  # zero itself is not allowed
        low = min(step, st.session_state[name])
    if name == "max_drop":  # more is allowed, but nobody wants it
        high = max(_MOST_POINTS, math.ceil(st.session_state[name]))
    st.slider(
        setting.title,
        kind(low),
        kind(high),
        step=kind(step),
        format=_FORMATS.get(name, f"%.1f {setting.unit}"),
        key=name,
        help=setting.help,
        disabled=disabled,
        on_change=on_change,
        persist_state="session",
        label_visibility="collapsed",
    )


def choice(
    form: Form, name: str, disabled: bool = False, on_change: Callable[[], None] | None = None
) -> None:
    """A setting with a few named values: those that go with the rest of the form."""
    setting = SETTINGS[name]
    options = choices(form, name, session.images())
    if setting.several:
        st.pills(
            setting.title,
            options,
            selection_mode="multi",
            format_func=lambda value: word(setting.name, value),
            key=name,
            help=setting.help,
            disabled=disabled or not options,
            on_change=on_change,
            persist_state="session",
        )
        return
    st.selectbox(
        setting.title,
        options,
        format_func=lambda value: word(setting.name, value),
        key=name,
        help=setting.help,
        disabled=disabled or len(options) < 2,
        on_change=on_change,
        persist_state="session",
    )


def optional_bits(name: str, unset: str, offered: tuple[int, ...], disabled: bool) -> None:
    """Bits, or none said. What the form has is offered too."""
    setting = SETTINGS[name]
    now = st.session_state[name]
    options = [UNSET, *sorted({*offered, now} - {UNSET}, reverse=True)]
    st.selectbox(
        setting.title,
        options,
        format_func=lambda bits: f"{bits} bits" if bits else unset,
        key=name,
        help=setting.help,
        disabled=disabled,
        on_change=session.adapt,
        persist_state="session",
    )


def entry(name: str, disabled: bool = False, high: float | None = None) -> None:
    """A number that is typed, of at most `high` if that is less than the setting allows."""
    setting = SETTINGS[name]
    whole = setting.integer
    low = setting.low or 0
    high = min(v for v in (setting.high or 1, high) if v is not None)
    step = 1 if whole else _ENTRIES.get(name, _ENTRY)
    if setting.above:  # the least of the range is not allowed itself
        low = min(_SMALLEST[name], st.session_state[name])
    st.number_input(
        setting.title,
        int(low) if whole else float(low),
        int(high) if whole else float(high),
        step=step,
        format="%d" if whole else "%.4g",
        key=name,
        help=setting.help,
        disabled=disabled,
        persist_state="session",
    )


def optional_share(name: str, unset: str, disabled: bool = False) -> None:
    """A share that may be left out; `unset` says what that means."""
    setting = SETTINGS[name]
    st.number_input(
        setting.title,
        0.001,
        float(setting.high or 1),
        None,
        step=0.005,
        format="%.3f",
        key=name,
        help=setting.help,
        placeholder=unset,
        disabled=disabled,
        on_change=session.adapt,
        persist_state="session",
    )


def optional_entry(name: str, unset: str, disabled: bool = False) -> None:
    """A whole number that may be left out; `unset` says what that means."""
    setting = SETTINGS[name]
    st.number_input(
        setting.title,
        int(setting.low or 0),
        int(setting.high or 1),
        None,
        step=1 if (setting.low or 0) < 100 else 1000,
        key=name,
        help=setting.help,
        placeholder=unset,
        disabled=disabled,
        persist_state="session",
    )
