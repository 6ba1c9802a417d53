"""The recipe: a method, three headline sliders, what they will do in one sentence, and Run."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from compression.catalogue.cards import Card, Weights, cards
from compression.catalogue.preset_timings import preset_seconds
from compression.errors import CompressionError
from compression.recipe.presets import PRESETS, available
from compression.recipe.recipe import Recipe
from compression.runs.durations.expected import estimate
from compression.runs.results import ACTIVE, State
from compression.runs.store import StoredRun
from dashboard.numbers import format as fmt
from dashboard.numbers.warnings import warning
from dashboard.state import actions, address, session, stored
from dashboard.state.defaults import refusal
from dashboard.state.form import (
    CUSTOM,
    DEVICES,
    Form,
    student_of,
    to_recipe,
)
from dashboard.views.recipe import advanced, pruning, run_progress, widgets
from dashboard.views.recipe.temperature_button import button

RUN = "to-run"  # the anchor just before Run
_PROGRESS_SECONDS = 1.0


def show() -> None:
    """Draw the panel. It reruns by itself while sliders move; the rest of the page stays."""
    _panel()
    if text := actions.message():
        st.toast(text, icon=":material/schedule:")


@st.fragment
def _panel() -> None:
    try:
        page = session.page()
        card, form = page.card, page.form
        # a student's weights change when it is trained
        weights = page.weights if student_of(form) is None else None
        known = [e for e in page.runs if e.run.state in (State.DONE, *ACTIVE)]
        with st.container(border=True, key="recipe", gap="small"):
            # scrolls by itself where the window is low, so that Run stays in sight
            with st.container(key="settings", gap="small"):
                _method()
                pruning.show(form, weights)
                _quantize(form)
                _distill(page)
                advanced.show(form, _more(page, weights, known))
            address.write_url(card.id, form)
            with st.container(key="act", gap="xsmall"):
                _act(page, weights, known)
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")


def _method() -> None:
    """How the steps work, in one choice."""
    images = session.images()
    titles = {name: PRESETS[name].title for name in available(images)} | {CUSTOM: "Custom"}
    described = [f"- **{PRESETS[n].title}**: {PRESETS[n].description}" for n in PRESETS]
    st.segmented_control(
        "Method",
        list(titles),
        key=session.METHOD,
        required=True,
        format_func=titles.__getitem__,
        on_change=_method_changed,
        persist_state="session",
        width="stretch",
        help="\n".join(["How pruning and rounding work.", *described, f"- **Custom**: {_CUSTOM}"]),
    )
    if not images:
        lacking = " and ".join(p.title for p in PRESETS.values() if p.name not in available(images))
        st.caption(f"{lacking} need calibration images, and this model has none here.")


_CUSTOM = "Set the finer settings below yourself."


def _method_changed() -> None:
    if st.session_state[session.METHOD] == CUSTOM:
        advanced.unfold()
    session.adapt()


def _quantize(form: Form) -> None:
    st.toggle(
        "Largest bit width" if form["mixed"] else "Bit width",
        key="quantize",
        persist_state="session",
        on_change=session.adapt,
        help="Quantization: rounds every weight to one of 2ᵇ values, which b bits store. "
        "The original has 32 bits.",
    )
    off = not form["quantize"]
    widgets.slider("bits", disabled=off, on_change=session.adapt)
    if form["mixed"] and not off:
        st.caption(f"**{form['average_bits']:g} bits** on average over all weights.")


def _refused(form: Form, card: Card, weights: Weights | None) -> str | None:
    student = student_of(form)
    return refusal(form, weights, (cards()[student] if student else card).architecture)


def _distill(page: session.PageState) -> None:
    form, possible = page.form, page.images
    st.toggle(
        "Distillation temperature",
        key="distill",
        persist_state="session",
        disabled=not possible,
        help="Distillation: trains the compressed model to match the original's logits.",
    )
    off = not (possible and form["distill"])
    widgets.slider("temperature", disabled=off)
    if not possible:
        st.caption("Off: distillation needs training images, and this model has none here.")


def _more(
    page: session.PageState, weights: Weights | None, known: list[StoredRun]
) -> dict[str, Callable[[], None]]:
    """What stands among the finer settings and is no setting of a step."""
    refused = _refused(page.form, page.card, weights)
    grid = {"distill": lambda: button(page.card, page.form, known, refused)}
    return (grid if page.images else {}) | {"Run": _seed_and_device}


def _seed_and_device() -> None:
    st.number_input(
        "Seed",
        0,
        2**31 - 1,
        step=1,
        key="seed",
        help="Fixes all randomness of a run.",
        persist_state="session",
    )
    st.selectbox(
        "Run on",
        list(DEVICES),
        key="device",
        persist_state="session",
        format_func=DEVICES.__getitem__,
    )


def _act(page: session.PageState, weights: Weights | None, known: list[StoredRun]) -> None:
    """What Run will do, and Run; while just that is being measured, how far it is."""
    card, form = page.card, page.form
    recipe = to_recipe(form)
    sentence = fmt.shortened(recipe.sentence())
    st.markdown(sentence, help="What Run will do, in this order, by the method chosen above.")
    same = _same(known, recipe)
    busy = same is not None and same.run.state in ACTIVE
    if not busy:  # else there is a better one below
        st.caption(_estimated(page, recipe))
    if card.dataset is None:
        st.caption("Accuracy needs a data set: this run measures size and latency only.")
    refused = _refused(form, card, weights)
    if refused:
        st.error(refused, icon=":material/block:")
    warned = warning(recipe, [e.run for e in page.runs])
    if warned and not refused:
        st.caption(f":orange[:material/warning: {warned}]")
    if same is not None and busy:
        _under_way(same)
        return
    if same is not None and not refused:
        _already(same)
    if why := actions.refused():
        st.error(why, icon=":material/block:")
    st.html(f'<div id="{RUN}" tabindex="-1"></div>')
    if st.button(
        "Run again" if same else "Run",
        key="run",
        shortcut="Ctrl+Enter",
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=refused is not None,
    ):
        actions.queue(card, recipe, form["device"])
        st.rerun()


def _estimated(page: session.PageState, recipe: Recipe) -> str:
    runs = [e.run for e in page.runs]
    preset = preset_seconds(page.card.id, recipe, st.session_state[session.METHOD])
    seconds = estimate(recipe, runs, preset)
    if seconds is None:
        return "How long it takes is not known before the first run like it."
    return f"Takes about {fmt.about(seconds)}, measuring included."


def _under_way(entry: StoredRun) -> None:
    """In the place of Run. Its end redraws the whole page, which the list of runs looks after."""
    st.fragment(_progress, run_every=_PROGRESS_SECONDS, key="progress_of_settings")(entry.run.id)


def _progress(run_id: str) -> None:
    try:
        entry = stored.store().runs.get(run_id)
    except CompressionError:
        return  # deleted meanwhile
    run_progress.bar(entry)
    run_progress.stop_button(entry, "stop", stretch=True)


def _same(known: list[StoredRun], recipe: Recipe) -> StoredRun | None:
    """The newest run of this very recipe that was finished, not stopped early, or is under way."""
    same = [e for e in known if e.run.recipe_key == recipe.key and not e.run.stopped_early]
    return same[-1] if same else None


def _already(same: StoredRun) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(_measured(same), width="stretch")
        if st.button("Show it", key="show_same", type="tertiary"):
            address.select(same.run.id)
            st.rerun()


def _measured(same: StoredRun) -> str:
    measured = same.run.compressed
    if measured is None:
        return "These settings have been measured."
    accuracy = f"{fmt.percent(measured.top1.value)} accuracy, " if measured.top1 else ""
    return f"Already measured: {accuracy}{fmt.size(measured.artifact_bytes)}."
