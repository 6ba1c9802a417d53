"""Widgets made from a recipe's settings: ranges, units, help and labels come from there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import streamlit as st

from compression.catalogue.cards import Weights
from compression.recipe.fields import Setting
from dashboard.state import session
from dashboard.state.form import SETTINGS, Form, choices

_DEFAULT_THRESHOLD_RANGE = 0.1
# How a slider writes its value, by unit; others write the unit after it.
_FORMATS = {"fraction": "percent", "T": "T = %g"}
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
    """The headline slider of pruning, over the magnitudes of this model's weights."""
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
    """A headline slider over the whole range that the page offers."""
    setting, value = SETTINGS[name], st.session_state[name]
    number: Callable[[float], Any] = int if setting.integer else float
    low, high = _range(setting, value)
    digits = "%d" if setting.integer else "%.1f"
    st.slider(
        setting.title,
        number(low),
        number(math.ceil(high)),
        step=1 if setting.integer else setting.shown.increment,
        format=_FORMATS.get(setting.unit, f"{digits} {setting.unit}"),
        key=name,
        help=setting.help,
        disabled=disabled,
        on_change=on_change,
        persist_state="session",
        label_visibility="collapsed",
    )


def widget(form: Form, key: str, disabled: bool) -> None:
    """The widget of any setting, by what its declaration says of it."""
    setting = SETTINGS[key]
    changed = session.name_method if setting.by_preset else session.adapt
    common: dict[str, Any] = {
        "key": key,
        "help": tooltip(setting),
        "disabled": disabled,
        "on_change": changed,
        "persist_state": "session",
    }
    if setting.choices:
        _choice(setting, choices(form, key, session.images()), common)
    elif setting.text:
        st.text_input(setting.title, placeholder=setting.shown.unset, **common)
    elif setting.shown.offered:
        _few(setting, common)
    else:
        entry(key, disabled)


def tooltip(setting: Setting) -> str:
    """The help of a setting, and a line for each of its choices."""
    lines = (f"- **{choice.label}**: {choice.help}" for choice in setting.words.values())
    return "\n".join([setting.help, *lines])


def _choice(setting: Setting, options: tuple[str, ...], common: dict[str, Any]) -> None:
    """Those of a setting's choices that are compatible with the rest of the form."""
    if setting.several:
        common |= {"disabled": common["disabled"] or not options}
        label = setting.label
        st.pills(setting.title, options, selection_mode="multi", format_func=label, **common)
        return
    common |= {"disabled": common["disabled"] or len(options) < 2}
    st.selectbox(setting.title, options, format_func=setting.label, **common)


def _few(setting: Setting, common: dict[str, Any]) -> None:
    """A few values, or none. A value from elsewhere is offered too."""
    value = st.session_state[common["key"]]
    options = [UNSET, *sorted({*setting.shown.offered, value} - {UNSET}, reverse=True)]
    st.selectbox(
        setting.title,
        options,
        format_func=lambda n: f"{n} {setting.unit}" if n else setting.shown.unset,
        **common,
    )


def entry(key: str, disabled: bool, most: float | None = None) -> None:
    """A number that is typed, of at most `most` if that is less than the setting allows."""
    setting, value = SETTINGS[key], st.session_state[key]
    whole = setting.integer
    number: Callable[[float], Any] = int if whole else float
    low, high = _range(setting, value)
    optional: dict[str, Any] = {"value": None, "placeholder": setting.shown.unset}
    st.number_input(
        setting.title,
        number(low),
        number(high if most is None else min(high, most)),
        step=max(1, int(setting.shown.increment)) if whole else setting.shown.increment,
        format="%d" if whole else "%.4g",
        key=key,
        help=setting.help,
        disabled=disabled,
        on_change=session.adapt,
        persist_state="session",
        **(optional if setting.shown.unset else {}),
    )


def _range(setting: Setting, value: float | None) -> tuple[float, float]:
    """What the page offers, widened to a value from elsewhere that is beyond it."""
    shown = setting.shown
    low = shown.low if shown.low is not None else setting.low or 0
    high = shown.high if shown.high is not None else setting.high or 1
    return (low, high) if value is None else (min(low, value), max(high, value))
