"""The selected run in full: every figure, the recipe, the machine."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

from compression.runs.results import Measurement, Run, State
from dashboard.numbers import format as fmt

# A longer recipe scrolls, in so many pixels.
_RECIPE_LINES, _RECIPE_HEIGHT = 18, 420
ICONS = {
    State.QUEUED: ("schedule", "gray"),
    State.RUNNING: ("sync", "blue"),
    State.DONE: ("check", "green"),
    State.FAILED: ("error", "red"),
    State.CANCELLED: ("cancel", "orange"),
}


def section(run: Run) -> None:
    """What is behind the four cards."""
    with st.grid(2, min_column_width=360, gap="medium"):
        if run.compressed is not None:
            _figures(run, run.compressed)
        with st.container():
            _recipe(run)


def _figures(run: Run, measured: Measurement) -> None:
    with st.container():
        st.dataframe(figures_frame(run), hide_index=True, key="figures", height="content")
        if measured.latency:
            st.caption(f"Latency with {fmt.how_timed(measured.latency)}.")


def _recipe(run: Run) -> None:
    st.markdown("Recipe, as the command line reads it with `--recipe`")
    text = json.dumps(json.loads(run.recipe.to_json()), indent=2)
    long = text.count("\n") > _RECIPE_LINES
    st.code(text, language="json", height=_RECIPE_HEIGHT if long else "content")
    if run.environment:
        st.markdown("Where and how it was measured")
        st.json(run.environment, expanded=False)


def figures_frame(run: Run) -> pd.DataFrame:
    """Every figure of a run beside the original's, as text."""
    before, after = run.baseline, run.compressed
    rows = [
        (title, _shown(before, get), _shown(after, get))
        for title, get in _FIGURES.items()
        if after is not None
    ]
    return pd.DataFrame(rows, columns=["Figure", "Original", "Compressed"])


def _shown(measured: Measurement | None, get: object) -> str:
    if measured is None or not callable(get):
        return fmt.DASH
    value = get(measured)
    return fmt.DASH if value is None else str(value)


_FIGURES = {
    "Accuracy": lambda m: m.top1 and fmt.percent(m.top1.value),
    "Accuracy, 95 % interval": lambda m: m.top1 and fmt.accuracy_range(m.top1),
    "File size": lambda m: fmt.size(m.artifact_bytes),
    "As 32-bit numbers": lambda m: fmt.size(m.dense_bytes),
    "The same, gzipped": lambda m: fmt.size(m.gzip_bytes),
    "Entropy, weight by weight": lambda m: fmt.size(m.entropy_bound_bytes),
    "As an ONNX file": lambda m: m.onnx_bytes and fmt.size(m.onnx_bytes),
    "As an ONNX file, int8": lambda m: m.int8_bytes and fmt.size(m.int8_bytes),
    "Bits per weight": lambda m: fmt.number(m.bits_per_weight),
    "Parameters": lambda m: fmt.count(m.parameters),
    "Not zero": lambda m: fmt.count(m.nonzero),
    "Sparsity": lambda m: fmt.percent(m.sparsity),
    "MACs per image": lambda m: None if m.macs is None else fmt.count(m.macs),
    "Latency, median": lambda m: m.latency and fmt.milliseconds(m.latency.p50_ms),
    "Latency, 90th percentile": lambda m: m.latency and fmt.milliseconds(m.latency.p90_ms),
    "Latency, 99th percentile": lambda m: m.latency and fmt.milliseconds(m.latency.p99_ms),
}
