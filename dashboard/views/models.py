"""Models: every model there is, what it needs, and how small it got here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from compression.catalogue.cards import Card, cards
from compression.errors import CompressionError
from compression.runs.results import Run, State
from dashboard.numbers import format as fmt
from dashboard.numbers.headline import smallest_within_a_point
from dashboard.state import session, stored

_TABLE = "models"


def show(explore: st.Page) -> None:
    """The page. A click on a model opens it in `explore`."""
    try:
        session.read_url()
        _page(explore)
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")


def _page(explore: st.Page) -> None:
    runs: dict[str, list[Run]] = {}
    for entry in stored.store().runs.find():
        if entry.run.state is State.DONE:
            runs.setdefault(entry.run.model, []).append(entry.run)
    ids = stored.model_ids()
    st.markdown("# Which model?")
    st.caption("Tick a model to explore it. The first ones come with the program, images included.")
    event = st.dataframe(
        frame([cards()[name] for name in ids], runs),
        key=_TABLE,
        hide_index=True,
        column_config=_COLUMNS,
        on_select="rerun",
        selection_mode="single-row",
        height=620,
        placeholder=fmt.DASH,
        alt="All models",
    )
    if rows := event["selection"]["rows"]:
        model = ids[rows[0]]
        if model != st.session_state["model"]:
            st.session_state["model"] = model
            session.model_changed()
        st.switch_page(explore)


def frame(known: Sequence[Card], runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """One row a model, in base units.

    Args:
        known: the models, in the order of the rows.
        runs: finished runs by the id of their model.
    """
    return pd.DataFrame([_row(card, runs.get(card.id, ())) for card in known])


def _row(card: Card, runs: Sequence[Run]) -> dict[str, object]:
    best = smallest_within_a_point(runs)
    accuracy = card.test_top1.value if card.test_top1 else card.published_top1
    return {
        "model": card.title,
        "trained_on": card.title.partition(" (")[2].rstrip(")"),
        "bundled": card.dataset is not None,
        "accuracy": None if accuracy is None else 100 * accuracy,
        "parameters": card.parameters / 1e6,
        "size": card.dense_bytes / 1e6,
        "macs": None if card.macs is None else float(f"{card.macs / 1e6:.3g}"),
        "runs": len(runs),
        "smaller": best.delta.size_ratio if best and best.delta else None,
    }


_number = st.column_config.NumberColumn
_COLUMNS = {
    "model": st.column_config.TextColumn("Model", width=260, pinned=True),
    "trained_on": st.column_config.TextColumn("Trained on", width=130),
    "bundled": st.column_config.CheckboxColumn(
        "With images",
        help="Whether images come with it: without them size and latency are measured, not "
        "accuracy.",
    ),
    "accuracy": _number(
        "Accuracy",
        format="%.1f %%",
        help="On test images: measured here for models that come with the program, as torchvision "
        "publishes it for the others.",
    ),
    "parameters": _number("Parameters", format="%.3g M"),
    "size": _number("File, float32", format="%.3g MB"),
    "macs": _number(
        "MACs, millions", format="localized", help="Multiply-accumulate operations for one image."
    ),
    "runs": _number("Runs here", format="%d"),
    "smaller": _number(
        "Smallest within 1 point",
        format=f"%.3g{fmt.TIMES} smaller",
        help="The smallest packed file of a run here that loses at most one percentage point of "
        "validation accuracy.",
    ),
}
