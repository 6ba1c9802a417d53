"""What the page remembers: the URL is the truth, session state feeds the widgets from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import streamlit as st

from compression.catalogue.cards import Card, Weights, cards
from compression.catalogue.starting_points import starting_points
from compression.errors import CompressionError
from compression.recipe.presets import available
from compression.runs.results import Run
from compression.runs.store import StoredRun
from dashboard.state import address, people, stored
from dashboard.state.defaults import first_form, first_method, round_threshold
from dashboard.state.form import (
    CUSTOM,
    NAMES,
    PLAIN,
    SETTINGS,
    Form,
    method_of,
    settled,
    split_names,
    with_preset,
)
from dashboard.state.url import ORIGINAL, from_params

METHOD = "method"
_READ = "url_read"
_PAGE = "page_state"
_START = "start_form"
_DRAWN = "drawn_model"
# A select box takes None for no choice, so bits that are unset go by 0 there.
_UNSET = [name for name, value in PLAIN.items() if value is None]
_BITS = [name for name, setting in SETTINGS.items() if setting.shown.offered]


@dataclass(frozen=True)
class PageState:
    """What one drawing of the page is made of, read once: `runs` are those of the card's model,
    oldest first, and `names` what people are called."""

    card: Card
    form: Form
    runs: tuple[StoredRun, ...]
    weights: Weights | None
    names: Mapping[str, str]

    @property
    def images(self) -> bool:
        """Whether the model has images: to calibrate on, to train on, to measure accuracy on."""
        return self.card.dataset is not None


@contextmanager
def drawing() -> Iterator[PageState]:
    """Read the page's state once for the whole script: inside, `page()` gives this same value.

    Only after `read_url`. A fragment that runs again later is outside, and reads anew.

    Raises:
        StoreError: the store cannot be opened or read.
    """
    st.session_state[_PAGE] = state = _page()
    st.session_state[_DRAWN] = state.card.id
    try:
        yield state
    finally:
        del st.session_state[_PAGE]


def page() -> PageState:
    """The page's state: the one being drawn, or read anew in a fragment that runs by itself.

    Raises:
        StoreError: the store cannot be opened or read.
    """
    state: PageState | None = current_page()
    return _page() if state is None else state


def current_page() -> PageState | None:
    """The state of the whole page being drawn; None in a fragment that runs by itself."""
    state: PageState | None = st.session_state.get(_PAGE)
    return state


def _page() -> PageState:
    card = cards()[st.session_state["model"]]
    runs = tuple(stored.store().runs.find(card.id))
    return PageState(card, form(), runs, stored.weights_of(card), people.names(stored.store()))


def read_url() -> None:
    """Once a session: take model and settings from the URL; remember what could not be used."""
    address.receive()
    if _READ in st.session_state:
        return
    params = st.query_params.to_dict()
    known, problems = stored.model_ids(), []
    run, missing = _named_run(params.get("run"))
    model = params.get("model", run.model if run else known[0])
    if model not in known:
        problems.append(f"model: {model!r} is not in the catalogue. Showing {known[0]} instead.")
        model = known[0]
    if run is not None and run.model != model:
        missing = f"run: {run.id!r} is a run of {run.model}, not of this model."
    if missing:
        problems.append(missing)
        address.select(None)
    st.session_state["model"] = model
    card = cards()[model]
    start = first_form(stored.weights_of(card), images(), starting_points(model))
    asked, wrong = from_params(params, start, images())
    if asked["student"] not in (None, *students()):
        unknown = (
            f"student: {asked['student']!r} has other images or classes; "
            "this model is trained itself."
        )
        asked, wrong = {**asked, "student": None}, (*wrong, unknown)
    if {"temperature", "epochs"} & params.keys() and card.dataset is None:
        wrong = (
            *wrong,
            "Distillation needs training images, and this model has none, so it is switched off.",
        )
    put_form(asked)
    if asked == start:
        st.session_state[_START] = form()
    address.put_problems((*problems, *wrong))
    st.session_state[_READ] = True


def _named_run(run_id: str | None) -> tuple[Run | None, str]:
    """The run the URL names, or why there is none."""
    if run_id is None or run_id == ORIGINAL:
        return None, ""
    try:
        return stored.store().runs.get(run_id).run, ""
    except CompressionError:
        return None, f"run: {run_id!r} is not in this store. Showing the best run instead."


def images() -> bool:
    """Whether the selected model has images: to calibrate on, train on, measure accuracy on."""
    return cards()[st.session_state["model"]].dataset is not None


def students() -> tuple[str, ...]:
    """The other models that could be trained in place of the selected one: same images, classes."""
    known = cards()
    card = known[st.session_state["model"]]
    fits = (m for m, c in known.items() if (c.dataset, c.classes) == (card.dataset, card.classes))
    return tuple(m for m in fits if m != card.id) if card.dataset is not None else ()


def form() -> Form:
    """The settings as they are now."""
    values = {name: st.session_state[name] for name in NAMES}
    for name, setting in SETTINGS.items():
        if setting.several and setting.text:
            values[name] = split_names(values[name] or "")
        elif setting.several:
            values[name] = tuple(sorted(values[name] or ()))
    return values | {name: values[name] or None for name in _UNSET}


def put_form(new: Form) -> None:
    """Set every widget. Only before they are drawn: at the top of a run or in a callback."""
    method = method_of(new, images(), st.session_state.get(METHOD))
    if method != CUSTOM:  # settings of steps that are off follow too
        new = with_preset(new, method, images())
    _put(new, method)


def _put(new: Form, method: str) -> None:
    for name, value in new.items():
        st.session_state[name] = _as_widget(name, value)
    st.session_state[METHOD] = method


def _as_widget(name: str, value: Any) -> Any:
    """A value of the form as its widget has it."""
    if name in SETTINGS and SETTINGS[name].text:
        return ", ".join(value) if isinstance(value, tuple) else value or ""
    if isinstance(value, tuple):
        return list(value)
    return (value or 0) if name in _BITS else value


def sparsity_before() -> float:
    """The sparsity that was asked for of the model drawn last, also where a threshold said it.

    Raises:
        StoreError: the store cannot be read.
    """
    drawn = cards().get(st.session_state.get(_DRAWN, ""))
    weights = stored.weights_of(drawn) if drawn is not None else None
    if st.session_state["amount"] == "threshold" and weights is not None:
        return weights.sparsity(st.session_state["threshold"])
    sparsity: float = st.session_state["sparsity"]
    return sparsity


def begin_anew() -> bool:
    """Where nothing was set yet, set what the model now selected is to begin with.

    Returns:
        Whether it was done; otherwise the settings are the person's own, and stay.
    """
    if st.session_state.get(_START) != form():
        return False
    model = cards()[st.session_state["model"]]
    put_form(first_form(stored.weights_of(model), images(), starting_points(model.id)))
    st.session_state[_START] = form()
    return True


def adapt() -> None:
    """An amount, the method or the model has changed: let the other settings follow."""
    method = st.session_state[METHOD]
    now = settled(form(), images())
    if now["student"] not in students():
        now = {**now, "student": None}
    if method != CUSTOM:
        method = method if method in available(images()) else first_method(images())
        now = with_preset(now, method, images())
    _put(now, method)


def model_changed() -> None:
    """Begin with what suits the new model, unless something was set: then the sparsity stays, for a
    threshold means something else in each model. For callbacks."""
    card = cards()[st.session_state["model"]]
    address.select(None)
    address.forget_problems()
    try:
        if begin_anew():
            return
        weights = stored.weights_of(card)
        sparsity = sparsity_before()
    except CompressionError:
        return  # the page says so itself
    if weights is not None:
        st.session_state["threshold"] = round_threshold(weights.threshold(sparsity))
    elif st.session_state["amount"] == "threshold":
        st.session_state["amount"] = "sparsity"
    adapt()


def name_method() -> None:
    """A setting that presets decide was changed by hand: the method may be custom now."""
    st.session_state[METHOD] = method_of(form(), images(), st.session_state[METHOD])
