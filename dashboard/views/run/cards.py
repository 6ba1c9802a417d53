"""The selected run in four cards: accuracy, size, latency, agreement."""

from __future__ import annotations

from typing import Any

import streamlit as st

from compression.catalogue.backends import INT8
from compression.runs.results import Delta, Measurement, Run
from dashboard.numbers import format as fmt
from dashboard.numbers.measures import MEASURES, timing_of


def show(run: Run, measured: Measurement, delta: Delta) -> None:
    """Accuracy, size, latency and agreement, each with its interval where it has one."""
    with st.grid(4, min_column_width=170, key="cards"):
        _accuracy_card(measured, delta)
        _size_card(run, measured, delta)
        _latency_card(run, measured, delta)
        _agreement_card(delta)


def _card(label: str, value: str, note: str, help: str, **delta: Any) -> None:
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.metric(label, value, help=help, **delta)
        st.caption(note)


def _accuracy_card(measured: Measurement, delta: Delta) -> None:
    if measured.top1 is None:
        _card("Accuracy", fmt.DASH, "Needs a data set", MEASURES["accuracy"].help)
        return
    change: dict[str, Any] = {}
    note = fmt.accuracy_interval(measured.top1)
    if delta.top1 is not None:
        note = f"Change {fmt.paired_interval(delta.top1)} points; {note}"
        sure = delta.top1.low > 0 or delta.top1.high < 0
        change = {
            "delta": fmt.points(delta.top1.value),
            "delta_color": ("green" if delta.top1.value > 0 else "red") if sure else "off",
            "delta_arrow": "off",
        }
    _card(
        "Accuracy",
        fmt.percent(measured.top1.value),
        note,
        f"{MEASURES['accuracy'].help} Below it, the change from the original on the same "
        "images; grey when it may be chance. Both come with their 95 % intervals.",
        **change,
    )


def _size_card(run: Run, measured: Measurement, delta: Delta) -> None:
    before = f"From {fmt.size(run.baseline.artifact_bytes)}" if run.baseline else ""
    change = {}
    if delta.size_ratio is not None:
        change = _factor(delta.size_ratio, "smaller", "larger", sure=True)
    _card(
        "File size",
        fmt.size(measured.artifact_bytes),
        f"{before}, {fmt.number(measured.bits_per_weight)} bits per weight",
        MEASURES["size"].help,
        **change,
    )


def _latency_card(run: Run, measured: Measurement, delta: Delta) -> None:
    if measured.latency is None:
        _card("Latency", fmt.DASH, "Could not be measured; see the notes", MEASURES["latency"].help)
        return
    change: dict[str, Any] = {}
    ratio = delta.latency_ratio
    if ratio is not None:
        change = _factor(ratio.value, "faster", "slower", sure=ratio.low > 1 or ratio.high < 1)
    original = run.baseline.latency if run.baseline else None
    before = f"From {fmt.milliseconds(original.p50_ms)}" if original else ""
    if ratio is not None:
        before += f", {fmt.ratio_interval(ratio)}"
    _card(
        "Latency",
        fmt.milliseconds(measured.latency.p50_ms),
        f"{before}; {fmt.how_timed(measured.latency)}{_as_int8(run)}",
        f"{MEASURES['latency'].help} Calls of the original and the compressed model are "
        "interleaved; the factor is original / compressed with its 95 % interval. No clear change: "
        "the interval includes 1.",
        **change,
    )


def _as_int8(run: Run) -> str:
    """The latency of the int8 graph, on a line of its own."""
    timing = timing_of(run, INT8)
    if timing is None:
        return ""
    latency = fmt.milliseconds(timing.compressed.p50_ms)
    return f"  \n**As int8: {latency}, {fmt.factor(timing.ratio)}**"


def _agreement_card(delta: Delta) -> None:
    help = "Share of the images that get the same label from both, right or wrong."
    if delta.agreement is None:
        _card("Agreement", fmt.DASH, "Needs a data set", help)
        return
    note = ""
    if delta.flips is not None:
        note = (
            f"With the original; {delta.flips.right_to_wrong:,} images turned wrong, "
            f"{delta.flips.wrong_to_right:,} turned right"
        )
    _card("Agreement", fmt.percent(delta.agreement), note, help)


def _factor(ratio: float, gain: str, loss: str, *, sure: bool) -> dict[str, Any]:
    if not sure:
        return {"delta": "no clear change", "delta_color": "off", "delta_arrow": "off"}
    word = gain if ratio >= 1 else loss
    shown = fmt.ratio(ratio if ratio >= 1 else 1 / ratio)
    colour = "off" if ratio == 1 else "green" if ratio > 1 else "red"
    return {"delta": f"{shown} {word}", "delta_color": colour, "delta_arrow": "off"}
