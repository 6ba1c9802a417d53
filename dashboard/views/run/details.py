"""The selected run in full: every figure, the recipe, the machine."""

from __future__ import annotations

import json
from collections.abc import Callable

import pandas as pd
import streamlit as st

from compression.runs.results import Measurement, Run, State
from dashboard.numbers import format as fmt

ICONS = {
    State.QUEUED: ("schedule", "gray"),
    State.RUNNING: ("sync", "blue"),
    State.DONE: ("check", "green"),
    State.FAILED: ("error", "red"),
    State.CANCELLED: ("cancel", "orange"),
}


def section(run: Run) -> None:
    """Every figure, the recipe as JSON, and the environment."""
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
    # whole: a box that scrolls cannot be read by keyboard
    with st.expander("Recipe, for the command line's `--recipe`", expanded=True):
        st.code(
            json.dumps(json.loads(run.recipe.to_json()), indent=2), language="json", wrap_lines=True
        )
    if run.environment:
        st.markdown("Where and how it was measured")
        st.json(run.environment, expanded=False)


def figures_frame(run: Run) -> pd.DataFrame:
    """Every figure of a run beside the original's, as text."""
    before, after = run.baseline, run.compressed
    rows = [
        (title, _shown(before, figure), _shown(after, figure))
        for title, figure in _FIGURES
        if after is not None
    ]
    return pd.DataFrame(rows, columns=["Figure", "Original", "Compressed"])


def _shown(measured: Measurement | None, figure: Callable[[Measurement], str | None]) -> str:
    return (measured and figure(measured)) or fmt.DASH


_FIGURES: tuple[tuple[str, Callable[[Measurement], str | None]], ...] = (
    ("Accuracy", lambda m: fmt.percent(m.top1.value) if m.top1 else None),
    ("Accuracy, 95 % interval", lambda m: fmt.accuracy_range(m.top1) if m.top1 else None),
    ("File size", lambda m: fmt.size(m.artifact_bytes)),
    ("Dense, float32", lambda m: fmt.size(m.dense_bytes)),
    ("The same, gzipped", lambda m: fmt.size(m.gzip_bytes)),
    ("Entropy bound", lambda m: fmt.size(m.entropy_bound_bytes)),
    ("ONNX file", lambda m: fmt.size(m.onnx_bytes) if m.onnx_bytes else None),
    ("ONNX file, int8", lambda m: fmt.size(m.int8_bytes) if m.int8_bytes else None),
    ("Bits per weight", lambda m: fmt.number(m.bits_per_weight)),
    ("Parameters", lambda m: fmt.count(m.parameters)),
    ("Nonzero parameters", lambda m: fmt.count(m.nonzero)),
    ("Sparsity", lambda m: fmt.percent(m.sparsity)),
    ("MACs per image", lambda m: None if m.macs is None else fmt.count(m.macs)),
    ("Latency, median", lambda m: fmt.milliseconds(m.latency.p50_ms) if m.latency else None),
    (
        "Latency, 90th percentile",
        lambda m: fmt.milliseconds(m.latency.p90_ms) if m.latency else None,
    ),
    (
        "Latency, 99th percentile",
        lambda m: fmt.milliseconds(m.latency.p99_ms) if m.latency else None,
    ),
)
