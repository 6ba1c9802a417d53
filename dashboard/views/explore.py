"""Explore: pick a model, set three sliders, run, and see what it costs and gains."""

from __future__ import annotations

import streamlit as st

from compression.catalogue.cards import Card, cards
from compression.errors import CompressionError
from dashboard.numbers import format as fmt
from dashboard.state import session
from dashboard.state.defaults import round_threshold
from dashboard.views import activity, runs_table
from dashboard.views.recipe import panel as panel_module
from dashboard.views.run import results

PANEL = 336  # pixels


def show() -> None:
    """The page. An error is one line on it."""
    try:
        _page()
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")


def _page() -> None:
    session.read_url()
    _header()
    with session.drawing() as state:
        _contents(state)


def _contents(state: session.PageState) -> None:
    card, entries = state.card, list(state.runs)
    chosen = session.selected(entries)
    _problems()
    with st.container(horizontal=True, gap="medium"):
        # a width of its own: what is in it reads the same at every width of the window
        panel, main = st.container(width=PANEL), st.container(width="stretch")
    with panel:
        panel_module.show()
    with main:
        activity.show(card, entries)
        results.show(card, entries, chosen)
    if entries:
        with st.container(border=True):
            runs_table.show(card, entries)


def _header() -> None:
    catalogue = cards()
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        left, right = st.container(width=PANEL), st.container(width="stretch")
    with left:
        st.selectbox(
            "Model",
            session.model_ids(),
            key="model",
            persist_state="session",
            format_func=lambda m: catalogue[m].title,
            on_change=_model_changed,
            help="The bundled models come first; they and their images need no network. "
            "The others are downloaded when they first run.",
        )
    card = catalogue[st.session_state["model"]]
    with right, st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for figure, what in _key_figures(card):
            st.markdown(f"**{figure}**  \n:small[:gray[{what}]]", width="content")
        with st.popover("About", icon=":material/info:", type="tertiary"):
            _about(card)


def _key_figures(card: Card) -> list[tuple[str, str]]:
    figures = [(fmt.count(card.parameters), "parameters")]
    if card.macs is not None:
        figures.append((fmt.count(card.macs), "MACs per image"))
    figures.append((fmt.size(card.dense_bytes), "in float32"))
    if card.test_top1 is not None:
        figures.append((fmt.percent(card.test_top1.value), "test accuracy"))
    elif card.published_top1 is not None:
        figures.append((fmt.percent(card.published_top1), "published accuracy"))
    return figures


def _about(card: Card) -> None:
    lines = [f"**{card.title}**", f"Architecture: torchvision `{card.architecture}`"]
    shape = f" {fmt.TIMES} ".join(map(str, card.input_shape))
    lines.append(f"Input: {shape} (channels, height, width); {card.classes:,} classes")
    lines.append("MAC: a multiply-accumulate operation, the usual unit of compute")
    if card.test_top1 is not None:
        shown = fmt.accuracy_interval(card.test_top1)
        lines.append(f"Test accuracy: {fmt.percent(card.test_top1.value)} ({shown})")
    lines += [f"Training: {card.training}"] if card.training else []
    lines += [f"Licence: {card.licence}"] if card.licence else []
    lines += [f"Date: {card.date}"] if card.date else []
    if not card.bundled:
        lines.append("Not bundled: torchvision downloads the weights at the first run.")
    lines.append(f"Id, for the command line: `{card.id}`")
    st.markdown("  \n".join(lines))


def _model_changed() -> None:
    """Keep the sparsity when the model changes: a threshold means something else in each."""
    card = cards()[st.session_state["model"]]
    session.select(None)
    session.forget_problems()
    try:
        weights = session.weights_of(card)
    except CompressionError:
        return  # the page says so itself
    if weights is not None:
        sparsity = st.session_state["sparsity"]
        st.session_state["threshold"] = round_threshold(weights.threshold(sparsity))
    elif st.session_state["amount"] == "threshold":
        st.session_state["amount"] = "sparsity"
    session.adapt()


def _problems() -> None:
    problems = session.url_problems()
    if not problems:
        return
    text = "Part of the URL could not be used.\n" + "\n".join(f"- {line}" for line in problems)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.warning(text, icon=":material/link_off:")
        st.button("Dismiss", key="dismiss", on_click=session.forget_problems)
