"""Explore: pick a model, set three sliders, run, and see what it costs and gains."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from compression.catalogue.cards import Card, cards
from compression.errors import CompressionError
from compression.runs.store import StoredRun
from dashboard.numbers import format as fmt
from dashboard.numbers.headline import headline, smallest_within_a_point
from dashboard.state import session
from dashboard.state.defaults import round_threshold
from dashboard.views import activity, people, queue, runs_table
from dashboard.views.recipe import panel as panel_module
from dashboard.views.run import details_tabs, results, strip

PANEL = 336  # pixels
_FIRST = "Move the sliders and press Run: accuracy, size and speed are measured."
_NEXT = "Move the sliders and press Run to measure more."


def show() -> None:
    """The page. An error is one line on it."""
    try:
        _page()
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")


def _page() -> None:
    session.read_url()
    with st.container(horizontal=True, gap="medium", key="page"):
        # a width of its own: what is in it reads the same at every width of the window
        panel = st.container(width=PANEL, key="panel", gap="small")
        main = st.container(width="stretch", key="main", gap="small")
    with panel:
        _model()
    with session.drawing() as state:
        _contents(state, panel, main)


def _contents(state: session.PageState, panel: DeltaGenerator, main: DeltaGenerator) -> None:
    card, entries = state.card, list(state.runs)
    best = smallest_within_a_point([e.run for e in entries])
    chosen = session.selected(entries, best.id if best else None)
    with main:
        shown = _headline(card, entries)
        _problems()
        strip.show(card, entries, chosen)
        if people.hides_all(entries, shown):
            people.show_nothing()
        else:
            results.show(card, shown, chosen)
        activity.show(card, entries)
        queue.show(card.id)
        if chosen is not None:
            details_tabs.show(entries, chosen)
        if shown:
            with st.container(border=True):
                runs_table.show(card, shown, chosen)
    with panel:
        panel_module.show()


def _headline(card: Card, entries: list[StoredRun]) -> list[StoredRun]:
    """What was found and how sure that is, and what the page is for; beside it, who looks at it.

    Returns:
        The runs to show: everybody's, or one person's.
    """
    sentence, interval = headline(card, [e.run for e in entries])
    with st.container(horizontal=True, vertical_alignment="top", gap="small"):
        with st.container(gap="xsmall", key="headline", width="stretch"):
            st.markdown(f"# {sentence}")
            st.caption(f"{interval} {_NEXT}" if interval else _FIRST)
        shown = people.whose_runs(entries)
        people.you()
    return shown


def _model() -> None:
    catalogue = cards()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.selectbox(
            "Model",
            session.model_ids(),
            key="model",
            persist_state="session",
            format_func=lambda m: catalogue[m].title,
            on_change=_model_changed,
            width="stretch",
            label_visibility="collapsed",
        )
        with st.popover("About", icon=":material/info:", type="tertiary", width="content"):
            _about(catalogue[st.session_state["model"]])


def _about(card: Card) -> None:
    figures = [f"{fmt.count(card.parameters)} parameters"]
    figures.append(f"{fmt.size(card.dense_bytes)} in float32")
    if card.macs is not None:
        figures.append(f"{fmt.count(card.macs)} multiply-accumulates (MACs) per image")
    lines = [f"**{card.title}**", ", ".join(figures)]
    lines.append(f"Architecture: torchvision `{card.architecture}`")
    shape = f" {fmt.TIMES} ".join(map(str, card.input_shape))
    lines.append(f"Input: {shape} (channels, height, width); {card.classes:,} classes")
    if card.test_top1 is not None:
        shown = fmt.accuracy_interval(card.test_top1)
        lines.append(f"Accuracy on test images: {fmt.percent(card.test_top1.value)} ({shown})")
    elif card.published_top1 is not None:
        lines.append(f"Published accuracy: {fmt.percent(card.published_top1)}")
    lines += [f"Training: {card.training}"] if card.training else []
    lines += [f"Licence: {card.licence}"] if card.licence else []
    lines += [f"Date: {card.date}"] if card.date else []
    if not card.bundled:
        lines.append("Not bundled: torchvision downloads the weights at the first run.")
    lines.append(f"Id, for the command line: `{card.id}`")
    st.markdown("  \n".join(lines))


def _model_changed() -> None:
    """Begin with what suits the new model, unless something was set: then the sparsity stays, for a
    threshold means something else in each model."""
    card = cards()[st.session_state["model"]]
    session.select(None)
    session.forget_problems()
    try:
        if session.begin_anew():
            return
        weights = session.weights_of(card)
        sparsity = session.sparsity_before()
    except CompressionError:
        return  # the page says so itself
    if weights is not None:
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
