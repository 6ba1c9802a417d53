"""All runs of a model in a table: to sort, filter, select from and download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any

import pandas as pd
import streamlit as st

from compression.catalogue.backends import INT8
from compression.catalogue.cards import Card
from compression.recipe.presets import PRESETS, method_settings, preset_of
from compression.recipe.recipe import Recipe
from compression.runs.results import Run
from compression.runs.store import StoredRun
from dashboard.numbers import format as fmt
from dashboard.numbers.measures import MEASURES, timing_of
from dashboard.state import actions, address, people, stored

_PIN = "\N{PUSHPIN} "


def frame(entries: list[StoredRun]) -> pd.DataFrame:
    """One row a run, pinned ones first and then the newest, in base units: what the table shows
    and the CSV holds."""
    newest_first = entries[::-1]
    pinned = [e for e in newest_first if e.pinned]
    return pd.DataFrame([_row(e) for e in [*pinned, *(e for e in newest_first if not e.pinned)]])


def _row(entry: StoredRun) -> dict[str, object]:
    run, m, d = entry.run, entry.run.compressed, entry.run.delta
    top1, change = (m.top1 if m else None), (d.top1 if d else None)
    ratio, latency = (d.latency_ratio if d else None), (m.latency if m else None)
    return {
        "run": run.id,
        "state": run.state.value,
        "name": stored.name_of(entry),
        "recipe": run.recipe.sentence(),
        "method": _method(run.recipe, run.dataset is not None),
        "accuracy_percent": 100 * top1.value if top1 else None,
        "accuracy_low_percent": 100 * top1.low if top1 else None,
        "accuracy_high_percent": 100 * top1.high if top1 else None,
        "change_points": 100 * change.value if change else None,
        "change_low_points": 100 * change.low if change else None,
        "change_high_points": 100 * change.high if change else None,
        "size_mb": m.artifact_bytes / 1e6 if m else None,
        "size_ratio": d.size_ratio if d else None,
        "latency_ms": latency.p50_ms if latency else None,
        "latency_ratio": ratio.value if ratio else None,
        "latency_ratio_low": ratio.low if ratio else None,
        "latency_ratio_high": ratio.high if ratio else None,
        "machine_was_busy": latency.on_busy_machine if latency else None,
        **_int8(run),
        "agreement_percent": 100 * d.agreement if d and d.agreement is not None else None,
        "sparsity_percent": 100 * m.sparsity if m else None,
        "macs": m.macs if m else None,
        "bits_per_weight": m.bits_per_weight if m else None,
        "seconds": run.seconds,
        "asked_for_by": people.shown_name(entry.owner, actions.names()) if entry.owner else None,
        "started": datetime.fromtimestamp(entry.created, UTC),
        "stopped_early": run.stopped_early,
        "pinned": entry.pinned,
        "notes": " ".join(run.notes),
    }


def _int8(run: Run) -> dict[str, object]:
    """The ONNX graphs' sizes, and the time of the int8 one where it was taken."""
    m, timing = run.compressed, timing_of(run, INT8)
    ratio = timing.ratio if timing else None
    return {
        "onnx_mb": m.onnx_bytes / 1e6 if m and m.onnx_bytes else None,
        "int8_mb": m.int8_bytes / 1e6 if m and m.int8_bytes else None,
        "int8_latency_ms": timing.compressed.p50_ms if timing else None,
        "int8_ratio": ratio.value if ratio else None,
        "int8_ratio_low": ratio.low if ratio else None,
        "int8_ratio_high": ratio.high if ratio else None,
    }


@lru_cache(maxsize=4096)
def _method(recipe: Recipe, images: bool) -> str | None:
    """The preset that makes the recipe; None where there is nothing to choose."""
    if not any(method_settings(step.step) for step in recipe.steps):
        return None
    name = preset_of(recipe, images=images)
    return PRESETS[name].title if name else "Custom"


def show(card: Card, entries: list[StoredRun], chosen: StoredRun | None) -> None:
    """The table and its filters; clicking a row selects its run, and the selected one is ticked."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.markdown("## All runs", width="stretch")
        shown = _filtered(entries)
    if shown.empty:
        st.caption("No run matches this filter.")
        return
    ids = list(shown["run"])
    key = table_key("runs", ids)
    if chosen is not None and chosen.run.id in ids:
        st.session_state[key] = {"selection": {"rows": [ids.index(chosen.run.id)]}}
    early, pinned = (shown[name].astype(bool) for name in ("stopped_early", "pinned"))
    marked = shown.assign(
        name=shown["name"].where(~pinned, _PIN + shown["name"]),
        state=shown["state"].where(~early, shown["state"] + ", stopped early"),
    )
    st.dataframe(
        # sorted as numbers, written as everywhere else on the page
        marked[["run", *_COLUMNS]].style.format(_TEXTS, na_rep=fmt.DASH),
        key=key,
        hide_index=True,
        column_order=list(_COLUMNS),
        column_config=_COLUMNS,
        on_select=lambda: _picked(key, ids),
        selection_mode="single-row",
        placeholder=fmt.DASH,
        alt=f"All runs of {card.title}",
    )
    # below, for the table's own tools come up over its upper right corner
    st.download_button(
        "Download CSV",
        # written when it is asked for: the browser fetches at once what has an address
        lambda: shown.to_csv(index=False).encode(),
        file_name=f"runs-{card.id.replace('/', '-')}.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def _filtered(entries: list[StoredRun]) -> pd.DataFrame:
    """The rows that the filters leave; the address keeps what they are set to."""
    if any(e.hidden for e in entries):
        st.session_state["show_hidden"] = address.kept("hidden") is not None
        keep = partial(_keep, "hidden", "show_hidden", lambda on: "yes" if on else "")
        if not st.toggle("Show hidden", key="show_hidden", on_change=keep):
            entries = [e for e in entries if not e.hidden]
    present = sorted({e.run.state.value for e in entries})
    asked = (address.kept("states") or "").split(",")
    st.session_state["filter_states"] = [state for state in present if state in asked]
    states = st.multiselect(
        "State",
        present,
        key="filter_states",
        placeholder="All",
        width=180,
        on_change=partial(_keep, "states", "filter_states", ",".join),
    )
    st.session_state["filter_words"] = address.kept("words") or ""
    words = st.text_input(
        "Recipe or notes contain",
        key="filter_words",
        width=180,
        on_change=partial(_keep, "words", "filter_words", str.strip),
    )
    return narrowed(frame(entries), states, words)


def _keep(name: str, key: str, text: Callable[[Any], str]) -> None:
    address.keep(name, text(st.session_state[key]) or None)


def narrowed(table: pd.DataFrame, states: list[str], words: str) -> pd.DataFrame:
    """Rows in one of the states (any, if none is named) that contain the words."""
    if states:
        table = table[table["state"].isin(states)]
    if words.strip():
        text = table["recipe"] + " " + table["notes"]
        table = table[text.str.contains(words.strip(), case=False, regex=False)]
    return table


def table_key(name: str, ids: Sequence[str]) -> str:
    """The key of a table of these runs: another one when they change.

    A browser says by its row what is picked; one that has not heard of a newer run yet would mean
    another.
    """
    return f"{name}_{sha256(' '.join(ids).encode()).hexdigest()[:12]}"


def _picked(key: str, ids: list[str]) -> None:
    event = st.session_state.get(key) or {}
    rows = (event.get("selection") or {}).get("rows", [])
    if rows and rows[0] < len(ids):
        address.select(ids[rows[0]])


# What writes the numbers of a column.
_TEXTS: dict[str, Any] = {
    "accuracy_percent": lambda value: fmt.percent(value / 100),
    "change_points": lambda value: fmt.points(value / 100),
    "size_mb": lambda value: fmt.size(1e6 * value),
    "size_ratio": fmt.ratio,
    "latency_ms": fmt.milliseconds,
    "latency_ratio": fmt.ratio,
    "int8_latency_ms": fmt.milliseconds,
    "int8_ratio": fmt.ratio,
    "agreement_percent": lambda value: fmt.percent(value / 100),
    "sparsity_percent": lambda value: fmt.percent(value / 100),
}
_number = st.column_config.NumberColumn
_COLUMNS = {
    "name": st.column_config.TextColumn("Run", width=220, pinned=True),
    "state": st.column_config.TextColumn("State", width=90),
    "accuracy_percent": _number("Accuracy", width=90),
    "change_points": _number("Change", width=110),
    "size_mb": _number("Size", width=84),
    "size_ratio": _number("Smaller"),
    "latency_ms": _number("Latency", width=92),
    "latency_ratio": _number("Faster"),
    "machine_was_busy": st.column_config.CheckboxColumn(
        "Busy machine",
        width=96,
        help="The machine was busy with other programs when latency was measured: it may be off.",
    ),
    "int8_latency_ms": _number(
        "Latency, int8",
        help="As an int8 graph: 8-bit weights and activations. The original runs in float32.",
    ),
    "int8_ratio": _number("Faster in int8"),
    "agreement_percent": _number("Agreement"),
    "sparsity_percent": _number("Sparsity", help=MEASURES["sparsity"].help),
    "recipe": st.column_config.TextColumn("Recipe", width="large"),
    "asked_for_by": st.column_config.TextColumn("Asked for by", width=110),
    "started": st.column_config.DatetimeColumn("Started", format="D MMM, HH:mm"),
    "notes": st.column_config.TextColumn("Notes", width="medium"),
}
