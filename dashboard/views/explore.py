"""Explore: pick a model, set three sliders, run, and see what it costs and gains."""

from __future__ import annotations

import time

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from compression.catalogue.cards import Card, cards
from compression.errors import CompressionError
from compression.runs.results import State
from compression.runs.store import StoredRun
from dashboard.figures.trade_off import LARGE
from dashboard.numbers import format as fmt
from dashboard.numbers.headline import headline, smallest_within_a_point
from dashboard.state import address, session, stored
from dashboard.views import activity, people, queue, runs_table
from dashboard.views.recipe import panel as panel_module
from dashboard.views.run import details_tabs, results, strip

PANEL = 344  # pixels
_WAS_LARGE = "was_large"
_SETTLE = 0.2  # seconds
# A room needs neither navigation nor the room above it.
_BARE = (
    '[data-testid="stHeader"] { display: none } '
    '[data-testid="stMainBlockContainer"] { padding-top: 1rem; padding-bottom: 0 }'
)
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
    _type_size(address.presenting())
    if address.presenting():
        with session.drawing() as state:
            _presentation(state)
        return
    st.html(f'<a class="skip" href="#{panel_module.RUN}">Skip to Run</a>')
    with st.container(horizontal=True, gap="medium", key="page"):
        # a width of its own: what is in it reads the same at every width of the window
        panel = st.container(width=PANEL, key="panel", gap="small")
        main = st.container(width="stretch", key="main", gap="small")
        # only on a phone, where the panel is a sheet
        st.toggle("Model and settings", key="sheet", on_change="ignore")
    with panel:
        _model()
    with session.drawing() as state:
        _contents(state, panel, main)


def _type_size(large: bool) -> None:
    """As large as a projector needs it, or as the browser has it."""
    style = f"html {{ font-size: {LARGE:.0%} }} {_BARE}" if large else "html { font-size: 100% }"
    st.html(f"<style>{style}</style>")
    if large != st.session_state.get(_WAS_LARGE, large):
        # Icons and figures take the size of type that there is when they come: it comes first.
        time.sleep(_SETTLE)
    st.session_state[_WAS_LARGE] = large


def _contents(state: session.PageState, panel: DeltaGenerator, main: DeltaGenerator) -> None:
    card, entries = state.card, list(state.runs)
    chosen, shown = _chosen(entries), people.shown(entries)
    with main:
        _headline(card, entries)
        _problems()
        strip.show(card, entries, chosen)
        _results(card, entries, shown, chosen)
        activity.show(card, entries)
        queue.show(card.id)
        if chosen is not None:
            details_tabs.show(entries, chosen)
        if shown:
            with st.container(border=True, key="runs"):
                runs_table.show(card, shown, chosen)
    with panel:
        panel_module.show()


def _headline(card: Card, entries: list[StoredRun]) -> None:
    """What was found and how sure that is, and what the page is for; beside it, whose runs are
    shown and who looks at them."""
    sentence, interval = headline(card, [e.run for e in entries])
    with st.container(gap="xsmall", key="head"):
        _title(sentence, any(e.run.state is State.DONE for e in entries), large=False)
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.caption(interval or _FIRST, width="content" if interval else "stretch")
            if interval:  # who has runs knows how; in a narrow window this gives way
                with st.container(key="next"):
                    st.caption(_NEXT)
            people.choose(entries)
            people.you(entries)


def _title(sentence: str, switch: bool, *, large: bool) -> None:
    """What was found; beside it, with `switch`, the way to the other size of the page."""
    with st.container(horizontal=True, wrap=False, gap="small", vertical_alignment="center"):
        st.markdown(f"# {sentence}", width="stretch")
        if switch:
            st.button(
                "Close" if large else "Present",
                key="present",
                icon=":material/close:" if large else ":material/slideshow:",
                type="tertiary",
                on_click=address.present,
                args=(not large,),
                shortcut="Escape" if large else None,
                help=None if large else "For a projector: large type, the chart and one sentence.",
            )


def _presentation(state: session.PageState) -> None:
    """What was found, for a room: 1.5 times as large, and nothing to set."""
    entries = list(state.runs)
    chosen = _chosen(entries)
    sentence, interval = headline(state.card, [e.run for e in entries])
    with st.container(gap="xsmall", key="head"):
        _title(sentence, True, large=True)
        st.caption(interval)
    strip.show(state.card, entries, chosen, menus=False)
    _results(state.card, entries, people.shown(entries), chosen, large=True)


def _results(
    card: Card,
    entries: list[StoredRun],
    shown: list[StoredRun],
    chosen: StoredRun | None,
    *,
    large: bool = False,
) -> None:
    """The chart of whose runs are shown, unless it would hide all there are."""
    if people.hides_all(entries, shown):
        people.show_nothing()
    else:
        results.show(card, shown, chosen, large=large)


def _chosen(entries: list[StoredRun]) -> StoredRun | None:
    best = smallest_within_a_point([e.run for e in entries])
    return address.selected(entries, best.id if best else None)


def _model() -> None:
    catalogue = cards()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.selectbox(
            "Model",
            stored.model_ids(),
            key="model",
            persist_state="session",
            format_func=lambda m: catalogue[m].title,
            on_change=session.model_changed,
            filter_mode="contains",  # keeps the order: bundled models first
            width="stretch",
            label_visibility="collapsed",
        )
        with st.popover(":material/info:", help="About this model", type="tertiary"):
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


def _problems() -> None:
    problems = address.url_problems()
    if not problems:
        return
    text = "Part of the URL could not be used.\n" + "\n".join(f"- {line}" for line in problems)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.warning(text, icon=":material/link_off:")
        st.button("Dismiss", key="dismiss", on_click=address.forget_problems)
