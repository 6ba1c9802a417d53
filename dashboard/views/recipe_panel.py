"""The recipe: three headline sliders, what they will do in one sentence, and Run."""

from __future__ import annotations

import streamlit as st

from compression.catalogue import Card, Weights
from compression.errors import CompressionError
from compression.recipe import Recipe
from compression.run import ACTIVE, State
from compression.store import Entry, new_run
from dashboard import charts, controls, state
from dashboard import format as fmt
from dashboard.form import DEVICES, Form, refusal, round_threshold, to_recipe

_QUEUED = "just_queued"


def show(card: Card) -> None:
    """Draw the panel. It reruns by itself while sliders move; the rest of the page stays."""
    _panel(card)
    if st.session_state.pop(_QUEUED, False):
        st.toast("Queued.", icon=":material/schedule:")


@st.fragment
def _panel(card: Card) -> None:
    try:
        weights = state.weights_of(card)
        with st.container(border=True, key="recipe"):
            _prune(weights)
            _quantize()
            _distill(card)
            form = state.form()
            state.write_url(card.id, form)
            _act(card, form, weights)
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")


def queue(card: Card, recipe: Recipe, device: str) -> None:
    """Put a run in the queue and select it. For callbacks."""
    run = new_run(card.id, card.dataset, recipe)
    try:
        state.store().add(run, device)
    except CompressionError as error:
        state.add_problem(str(error))
    else:
        state.select(run.id)
        st.session_state[_QUEUED] = True


def _prune(weights: Weights | None) -> None:
    by_sparsity = st.session_state["by_sparsity"]
    st.toggle(
        "**Pruning sparsity**" if by_sparsity else "**Pruning threshold**",
        key="prune",
        persist_state="session",
        help="Sets the weights of least magnitude to zero. Zeros make the file smaller; "
        "they do not make it faster.",
    )
    off = not st.session_state["prune"]
    if by_sparsity:
        controls.slider("sparsity", disabled=off)
    else:
        controls.threshold_slider(weights, disabled=off)
    if not off:
        _cut(weights)
    st.toggle(
        "Set sparsity instead of a threshold",
        key="by_sparsity",
        persist_state="session",
        on_change=_switch,
        args=(weights,),
        disabled=off,
        help="Say which share of the weights to set to zero, instead of below which magnitude.",
    )
    with st.expander("Finer settings for pruning", type="compact"):
        controls.choice("scope", disabled=off or not by_sparsity)
        if not by_sparsity:
            st.caption("A threshold is the same for every layer.")


def _switch(weights: Weights | None) -> None:
    """Carry the same cut from one way of saying it to the other."""
    if weights is None:
        return
    if st.session_state["by_sparsity"]:
        share = weights.sparsity(st.session_state["threshold"])
        st.session_state["sparsity"] = min(round(share * 200) / 200, 1.0)
    else:
        cut = weights.threshold(st.session_state["sparsity"])
        st.session_state["threshold"] = round_threshold(cut)


def _cut(weights: Weights | None) -> None:
    if weights is None:
        given = "threshold" if st.session_state["by_sparsity"] else "sparsity"
        st.caption(f"The {given} that this gives is shown after the model's first run.")
        return
    high, _step = controls.threshold_range(weights)
    if st.session_state["by_sparsity"]:
        if st.session_state["scope"] == "layer":
            st.caption("Every layer gets a threshold of its own.")
            return
        threshold = weights.threshold(st.session_state["sparsity"])
        words = f"Weights smaller than **{fmt.number(threshold)}** become zero"
    else:
        threshold = st.session_state["threshold"]
        words = f"**{fmt.percent(weights.sparsity(threshold))}** of the weights become zero"
    numbers = charts.cut(weights, threshold, high)
    st.markdown(words)
    st.plotly_chart(
        charts.cut_figure(numbers),
        key="cut",
        config={"displayModeBar": False, "staticPlot": True},
        alt=f"Weights by magnitude. {charts.cut_notice(numbers)}.",
    )


def _quantize() -> None:
    st.toggle(
        "**Bit width**",
        key="quantize",
        persist_state="session",
        help="Quantization: rounds every weight to one of 2ᵇ values, so that b bits hold it. "
        "The original has 32 bits.",
    )
    off = not st.session_state["quantize"]
    controls.slider("bits", disabled=off)
    with st.expander("Finer settings for bit width", type="compact"):
        for name in ("scheme", "granularity", "clipping"):
            controls.choice(name, disabled=off)


def _distill(card: Card) -> None:
    possible = card.dataset is not None
    st.toggle(
        "**Distillation temperature**",
        key="distill",
        persist_state="session",
        disabled=not possible,
        help="Distillation: further training in which the compressed model learns to answer "
        "like the original.",
    )
    off = not (possible and st.session_state["distill"])
    controls.slider("temperature", disabled=off)
    if not possible:
        st.caption("Off: teaching needs training images, and there are none for this model here.")
    with st.expander("Finer settings for distillation", type="compact"):
        for name in ("epochs", "alpha", "learning_rate"):
            controls.entry(name, disabled=off)


def _act(card: Card, form: Form, weights: Weights | None) -> None:
    with st.expander("Seed and device", type="compact"):
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
            DEVICES,
            key="device",
            persist_state="session",
            format_func=lambda d: controls.CHOICES.get(d, d),
        )
    form = state.form()
    recipe = to_recipe(form)
    st.markdown(recipe.sentence(), help="What Run will do, in this order.")
    if card.dataset is None:
        st.caption("Accuracy needs a data set: this run measures size and latency only.")
    refused = refusal(form, weights)
    if refused:
        st.error(refused, icon=":material/block:")
    same = _same(card, recipe)
    if same and not refused:
        _already(same)
    if st.button(
        "Run again" if same else "Run",
        key="run",
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=refused is not None,
    ):
        queue(card, recipe, form.device)
        st.rerun()


def _same(card: Card, recipe: Recipe) -> Entry | None:
    """The newest run of this very recipe that is finished or under way."""
    found = state.store().entries(card.id, (State.DONE, *ACTIVE))
    same = [e for e in found if e.run.recipe_key == recipe.key]
    return same[-1] if same else None


def _already(same: Entry) -> None:
    under_way = same.run.state in ACTIVE
    text = "These settings are being measured now." if under_way else _measured(same)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(text)
        if st.button("Show it", key="show_same"):
            state.select(same.run.id)
            st.rerun()


def _measured(same: Entry) -> str:
    measured = same.run.compressed
    if measured is None:
        return "These settings have been measured."
    accuracy = f"{fmt.percent(measured.top1.value)} accuracy, " if measured.top1 else ""
    return f"Already measured: {accuracy}{fmt.size(measured.artifact_bytes)}."
