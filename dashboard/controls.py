"""Widgets made from a recipe's settings: ranges, units and help come from there."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import streamlit as st

from compression.catalogue import Weights
from dashboard.form import SETTINGS

CHOICES = {
    "global": "The whole network",
    "layer": "Each layer by itself",
    "symmetric": "Symmetric about zero",
    "affine": "Shifted to fit (affine)",
    "channel": "Output channel",
    "tensor": "Layer",
    "mse": "Least squared error",
    "minmax": "Smallest to largest weight",
    "auto": "Automatic: GPU if there is one",
    "cpu": "Processor (CPU)",
    "cuda": "NVIDIA GPU (CUDA)",
}
UNITS = {"T": "", "|w|": "", "fraction": "", "epochs": "", "bits": " bits"}
_COARSE = {"temperature": 0.5, "sparsity": 0.005, "alpha": 0.05}
_DEFAULT_THRESHOLD_RANGE = 0.1


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


def slider(name: str, disabled: bool = False) -> None:
    """A headline slider over the whole allowed range."""
    setting = SETTINGS[name]
    low, high = setting.low or 0, setting.high or 1
    kind: Callable[[float], Any] = int if setting.integer else float
    step = 1 if setting.integer else _COARSE[name]
    if name == "temperature":  # zero itself is not allowed
        low = min(step, st.session_state[name])
    st.slider(
        setting.title,
        kind(low),
        kind(high),
        step=kind(step),
        format="percent" if name == "sparsity" else "%d bits" if name == "bits" else "T = %g",
        key=name,
        help=setting.help,
        disabled=disabled,
        persist_state="session",
        label_visibility="collapsed",
    )


def choice(name: str, disabled: bool = False) -> None:
    """A setting with a few named values."""
    setting = SETTINGS[name]
    st.selectbox(
        setting.title,
        setting.choices,
        format_func=lambda value: CHOICES.get(value, value),
        key=name,
        help=setting.help,
        disabled=disabled,
        persist_state="session",
    )


def entry(name: str, disabled: bool = False) -> None:
    """A number that is typed."""
    setting = SETTINGS[name]
    whole = setting.integer
    low, high = setting.low or 0, setting.high or 1
    step = 1 if whole else {"learning_rate": 0.005, "alpha": 0.05}[name]
    if name == "learning_rate":
        low = min(0.0001, st.session_state[name])
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
