"""The selected run in full, and the table of all runs of a model."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from compression.catalogue import Card
from compression.run import Measurement, Run, State
from compression.store import Entry
from dashboard import format as fmt
from dashboard import state
from dashboard.form import from_recipe

ICONS = {
    State.QUEUED: ("schedule", "gray"),
    State.RUNNING: ("sync", "blue"),
    State.DONE: ("check", "green"),
    State.FAILED: ("error", "red"),
    State.CANCELLED: ("cancel", "orange"),
}
_TABLE = "runs"


def show(card: Card, entries: list[Entry], chosen: Entry | None) -> None:
    """Tabs: the selected run, and all runs."""
    if chosen is not None:
        _details(chosen)
        st.space("small")
    _table(card, entries)


def _details(chosen: Entry) -> None:
    run = chosen.run
    icon, colour = ICONS[run.state]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### Run {run.id}", width="content")
        st.badge(run.state.value, icon=f":material/{icon}:", color=colour)  # type: ignore[arg-type]
        st.markdown(run.recipe.sentence(), width="stretch")
        _use(run)
    for note in run.notes:
        st.caption(f":material/info: {note}")
    with st.expander("All figures, the recipe and the machine"):
        figures, recipe = st.columns(2, gap="medium")
        if run.compressed is not None:
            figures.dataframe(figures_frame(run), hide_index=True, key="figures", height="content")
        with recipe:
            st.markdown("Recipe, as the command line reads it with `--recipe`")
            st.code(json.dumps(json.loads(run.recipe.to_json()), indent=2), language="json")
            if run.environment:
                st.markdown("Where it was measured")
                st.json(run.environment, expanded=False)


def _use(run: Run) -> None:
    fits = from_recipe(run.recipe, state.form())
    st.button(
        "Use these settings",
        key="use",
        icon=":material/tune:",
        on_click=state.put_form,
        args=(fits,),
        disabled=fits is None,
        help="Sets the sliders as this run had them."
        if fits
        else "This recipe has steps in an order, or a number, that the three sliders cannot show.",
    )


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
    "Accuracy, 95 % interval": lambda m: (
        m.top1 and f"{fmt.percent(m.top1.low)} to {fmt.percent(m.top1.high)}"
    ),
    "File size": lambda m: fmt.size(m.artifact_bytes),
    "As 32-bit numbers": lambda m: fmt.size(m.dense_bytes),
    "The same, gzipped": lambda m: fmt.size(m.gzip_bytes),
    "Least possible (entropy)": lambda m: fmt.size(m.entropy_bound_bytes),
    "Bits per weight": lambda m: fmt.number(m.bits_per_weight),
    "Parameters": lambda m: fmt.count(m.parameters),
    "Not zero": lambda m: fmt.count(m.nonzero),
    "Sparsity": lambda m: fmt.percent(m.sparsity),
    "MACs per image": lambda m: None if m.macs is None else fmt.count(m.macs),
    "Latency, median": lambda m: m.latency and fmt.milliseconds(m.latency.p50_ms),
    "Latency, 90th percentile": lambda m: m.latency and fmt.milliseconds(m.latency.p90_ms),
    "Latency, 99th percentile": lambda m: m.latency and fmt.milliseconds(m.latency.p99_ms),
    "Timed with": lambda m: m.latency and fmt.how_timed(m.latency),
}


def frame(entries: list[Entry]) -> pd.DataFrame:
    """One row a run, newest first, in base units: what the table shows and the CSV holds."""
    return pd.DataFrame([_row(e) for e in reversed(entries)])


def _row(entry: Entry) -> dict[str, object]:
    run, m, d = entry.run, entry.run.compressed, entry.run.delta
    top1, change = (m.top1 if m else None), (d.top1 if d else None)
    ratio, latency = (d.latency_ratio if d else None), (m.latency if m else None)
    return {
        "run": run.id,
        "state": run.state.value,
        "recipe": run.recipe.sentence(),
        "accuracy_percent": 100 * top1.value if top1 else None,
        "accuracy_low_percent": 100 * top1.low if top1 else None,
        "accuracy_high_percent": 100 * top1.high if top1 else None,
        "change_points": 100 * change.value if change else None,
        "change_low_points": 100 * change.low if change else None,
        "change_high_points": 100 * change.high if change else None,
        "size_kb": m.artifact_bytes / 1000 if m else None,
        "size_ratio": d.size_ratio if d else None,
        "latency_ms": latency.p50_ms if latency else None,
        "latency_ratio": ratio.value if ratio else None,
        "latency_ratio_low": ratio.low if ratio else None,
        "latency_ratio_high": ratio.high if ratio else None,
        "agreement_percent": 100 * d.agreement if d and d.agreement is not None else None,
        "sparsity_percent": 100 * m.sparsity if m else None,
        "macs": m.macs if m else None,
        "bits_per_weight": m.bits_per_weight if m else None,
        "seconds": run.seconds,
        "started": datetime.fromtimestamp(entry.created, UTC),
        "notes": " ".join(run.notes),
    }


def _table(card: Card, entries: list[Entry]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown(f"#### All runs of {card.title}", width="stretch")
        present = sorted({e.run.state.value for e in entries})
        states = st.multiselect("State", present, key="filter_states", placeholder="All", width=260)
        words = st.text_input("Recipe or notes contain", key="filter_words", width=220)
        shown = narrowed(frame(entries), states, words)
        st.download_button(
            "Download CSV",
            shown.to_csv(index=False),
            file_name=f"runs-{card.id.replace('/', '-')}.csv",
            mime="text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
    if shown.empty:
        st.caption("No run fits this filter.")
        return
    ids = list(shown["run"])
    st.dataframe(
        shown,
        key=_TABLE,
        hide_index=True,
        column_order=list(_COLUMNS),
        column_config=_COLUMNS,
        on_select=lambda: _picked(ids),
        selection_mode="single-row",
    )


def narrowed(table: pd.DataFrame, states: list[str], words: str) -> pd.DataFrame:
    """Rows in one of the states (any, if none is named) that contain the words."""
    keep = pd.Series(True, index=table.index)
    if states:
        keep &= table["state"].isin(states)
    if words.strip():
        text = table["recipe"] + " " + table["notes"]
        keep &= text.str.contains(words.strip(), case=False, regex=False)
    return table[keep]


def _picked(ids: list[str]) -> None:
    event = st.session_state.get(_TABLE) or {}
    rows = (event.get("selection") or {}).get("rows", [])
    if rows and rows[0] < len(ids):
        state.select(ids[rows[0]])


_number = st.column_config.NumberColumn
_COLUMNS = {
    "state": st.column_config.TextColumn("State", width="small"),
    "recipe": st.column_config.TextColumn("Recipe", width="large"),
    "accuracy_percent": _number("Accuracy", format="%.1f %%"),
    "change_points": _number("Change", format="%+.2f points"),
    "size_kb": _number("Size", format="%.4g kB"),
    "size_ratio": _number("Smaller", format=f"%.3g{fmt.TIMES}"),
    "latency_ms": _number("Latency", format="%.3g ms"),
    "latency_ratio": _number("Faster", format=f"%.3g{fmt.TIMES}"),
    "agreement_percent": _number("Agreement", format="%.3g %%"),
    "sparsity_percent": _number("Sparsity", format="%.3g %%"),
    "started": st.column_config.DatetimeColumn("Started", format="D MMM, HH:mm"),
    "notes": st.column_config.TextColumn("Notes", width="medium"),
}
