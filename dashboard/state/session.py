"""What the page remembers: the URL is the truth, session state feeds the widgets from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import streamlit as st

from compression.catalogue.cards import Card, Weights, cards
from compression.catalogue.examples import Example, examples, put_examples
from compression.catalogue.preset_timings import preset_seconds
from compression.catalogue.starting_points import starting_points
from compression.errors import CompressionError
from compression.paths import STORE_VARIABLE
from compression.recipe.presets import available
from compression.recipe.recipe import Recipe
from compression.runs.durations.expected import estimate
from compression.runs.results import Run, State
from compression.runs.store import Store, StoredRun, new_run, open_store
from dashboard.state import people
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
from dashboard.state.rules import rules
from dashboard.state.url import ORIGINAL, from_params, to_params

FIRST_MODEL = "fashion-mnist/resnet18"
METHOD = "method"
_READ = "url_read"
_LEFT = "url_left"
_PAGE = "page_state"
_PROBLEMS = "url_problems"
_MESSAGE = "message"
_REMOVED = "removed_run"
_REFUSED = "refused"
_START = "start_form"
_DRAWN = "drawn_model"
# What of the URL is no setting of the form.
_KEPT = ("run", "compare", "x", "y", "colour", "solid", "tab", "size", "whose")
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
    runs = tuple(store().runs.find(card.id))
    return PageState(card, form(), runs, weights_of(card), people.names(store()))


@st.cache_resource(show_spinner=False, max_entries=8)
def _open(url: str | None) -> Store:
    opened = open_store(url)
    put_examples(opened)
    return opened


def store() -> Store:
    """The store this page was started with, opened once.

    Raises:
        StoreError: it cannot be opened.
    """
    return _open(os.environ.get(STORE_VARIABLE) or None)


@cache
def _examples() -> dict[str, Example]:
    return {example.run.id: example for example in examples()}


def example_of(run_id: str) -> Example | None:
    """The example a run is, if it came with the program."""
    return _examples().get(run_id)


def model_ids() -> list[str]:
    """Every model: the bundled ones first, then the ImageNet ones, each group by name.

    The best known of the bundled ones leads.
    """
    known = cards()
    return sorted(known, key=lambda m: (not known[m].bundled, m != FIRST_MODEL, m))


def weights_of(card: Card) -> Weights | None:
    """How the model's weights are spread, from its card or from its first run; None before."""
    if card.weights is not None:
        return card.weights
    body = store().facts.get("weights", card.id)
    return None if body is None else Weights.model_validate(body)


def read_url() -> None:
    """Once a session: take model and settings from the URL; remember what could not be used."""
    if _READ in st.session_state:
        return
    params = st.query_params.to_dict()
    known, problems = model_ids(), []
    run, missing = _named_run(params.get("run"))
    model = params.get("model", run.model if run else known[0])
    if model not in known:
        problems.append(f"model: {model!r} is not in the catalogue. Showing {known[0]} instead.")
        model = known[0]
    if run is not None and run.model != model:
        missing = f"run: {run.id!r} is a run of {run.model}, not of this model."
    if missing:
        problems.append(missing)
        select(None)
    st.session_state["model"] = model
    card = cards()[model]
    start = first_form(weights_of(card), images(), starting_points(model))
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
    st.session_state[_PROBLEMS] = (*problems, *wrong)
    st.session_state[_READ] = True


def restore_url() -> None:
    """Where the page is come back to from another one: put what is seen into the URL again."""
    if not st.query_params and _LEFT in st.session_state:
        st.query_params.from_dict(st.session_state[_LEFT])


def _named_run(run_id: str | None) -> tuple[Run | None, str]:
    """The run the URL names, or why there is none."""
    if run_id is None or run_id == ORIGINAL:
        return None, ""
    try:
        return store().runs.get(run_id).run, ""
    except CompressionError:
        return None, f"run: {run_id!r} is not in this store. Showing the best run instead."


def url_problems() -> tuple[str, ...]:
    """What was wrong with the URL, until it is dismissed."""
    problems: tuple[str, ...] = st.session_state.get(_PROBLEMS, ())
    return problems


def add_problem(sentence: str) -> None:
    """Report on the page that something in the URL could not be used."""
    if sentence not in url_problems():
        st.session_state[_PROBLEMS] = (*url_problems(), sentence)


def forget_problems() -> None:
    """Dismiss them."""
    st.session_state[_PROBLEMS] = ()


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
    weights = weights_of(drawn) if drawn is not None else None
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
    put_form(first_form(weights_of(model), images(), starting_points(model.id)))
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
    select(None)
    forget_problems()
    try:
        if begin_anew():
            return
        weights = weights_of(card)
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


def write_url(model: str, now: Form) -> None:
    """Write the page's settings to the URL; the selected run is already there."""
    params = {"model": model, **to_params(now)}
    params |= {name: st.query_params[name] for name in _KEPT if name in st.query_params}
    if st.query_params.to_dict() != params:
        st.query_params.from_dict(params)
    st.session_state[_LEFT] = {name: params[name] for name in _KEPT if name in params}


def select(run_id: str | None) -> None:
    """Choose a run, by its id, or none."""
    keep("run", run_id)


def kept(name: str) -> str | None:
    """A choice that the address keeps beside the settings: an axis, the open tab."""
    value: str | None = st.query_params.get(name)
    return value


def keep(name: str, value: str | None) -> None:
    """Put such a choice in the address, or take it out."""
    if value is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = value


def presenting() -> bool:
    """Whether the page is as large as a projector needs it."""
    return kept("size") == "large"


def present(large: bool) -> None:
    """Make it so, or as it was. For callbacks."""
    keep("size", "large" if large else None)


def name_of(entry: StoredRun) -> str:
    """What a run is called: as somebody named it, as the example it is, or by its settings."""
    example = example_of(entry.run.id)
    return example.title if example and not entry.name else entry.title


def compared() -> tuple[str, ...]:
    """The ids of the runs whose curves are drawn beside the selected one's."""
    return tuple(dict.fromkeys(filter(None, st.query_params.get("compare", "").split(","))))


def compare(run_ids: Sequence[str]) -> None:
    """Choose the runs whose curves are drawn beside."""
    keep("compare", ",".join(run_ids) or None)


def say(sentence: str) -> None:
    """Show a short message once, when the page is drawn next."""
    st.session_state[_MESSAGE] = sentence


def message() -> str:
    """The message to show now; none the next time."""
    text: str = st.session_state.pop(_MESSAGE, "")
    return text


def selected(entries: Sequence[StoredRun], best: str | None = None) -> StoredRun | None:
    """The run the address names; if it names none, the best or else the newest finished one, which
    it names from then on: a run that somebody else finishes later never takes its place. None if
    it names the original.
    """
    if original_selected():
        return None
    run_id = st.query_params.get("run")
    named = [e for e in entries if e.run.id == run_id]
    if named:
        return named[0]
    done = [e for e in entries if e.run.state == "done" and not e.hidden]
    if not done:
        return None
    first = next((e for e in done if e.run.id == best), done[-1])
    select(first.run.id)
    return first


def original_selected() -> bool:
    """Whether the original is looked at in the place of a run."""
    return st.query_params.get("run") == ORIGINAL


def person() -> str:
    """The id of the browser that looks at the page; empty where it has none."""
    return people.person_of(st.context.cookies)


def visitor() -> people.Visitor:
    """Who looks at the page, and whether they are the admin."""
    token = rules().admin_token
    return people.Visitor(person(), people.is_admin(st.context.cookies, token), bool(token))


def owns(entry: StoredRun) -> bool:
    """Whether the person may cancel, rename, pin, hide or delete the run.

    Where not, the widget that does it is disabled; Streamlit's server then refuses it too.
    """
    return visitor().may_change(entry.owner)


def names() -> Mapping[str, str]:
    """What people are called, by id.

    Raises:
        StoreError: the store cannot be read.
    """
    state = current_page()
    return people.names(store()) if state is None else state.names


def asked_for_by(entry: StoredRun) -> str:
    """Who asked for a run, if that was somebody else; empty if not.

    Raises:
        StoreError: the store cannot be read.
    """
    return "" if entry.owner in ("", person()) else people.shown_name(entry.owner, names())


def queue(card: Card, recipe: Recipe, device: str) -> None:
    """Put a run in the queue and select it; one that somebody else has asked for already is not
    done twice. For callbacks."""
    run = new_run(card.id, card.dataset, recipe)
    for entry in _add((run,), device):
        select(entry.run.id)
        waits = entry.run.state is State.QUEUED
        already = f"Just this is {'queued' if waits else 'being measured'} already."
        say("Queued." if entry.run.id == run.id else already)


def queue_all(card: Card, recipes: Sequence[Recipe], device: str) -> None:
    """Put several runs in the queue, or none where that is more than one person may have there."""
    added = _add([new_run(card.id, card.dataset, recipe) for recipe in recipes], device)
    if added:
        say(f"{len(added)} runs queued.")


def _add(runs: Sequence[Run], device: str) -> list[StoredRun]:
    who = visitor()
    most = None if who.admin else rules().runs_per_person
    st.session_state.pop(_REFUSED, None)
    try:
        return store().runs.add_all_once(runs, device, who.person, most)
    except CompressionError as error:
        _refuse(str(error))
        return []


def seconds_of(entry: StoredRun) -> float | None:
    """Seconds that a run will take from its start, by earlier runs of its model; None where
    nothing tells."""
    model, recipe = entry.run.model, entry.run.recipe
    earlier = [e.run for e in store().runs.find(model, (State.DONE,))]
    return estimate(recipe, earlier, preset_seconds(model, recipe))


def change(what: Callable[[], None]) -> None:
    """Change something in the store; what is in the way is said beside Run. For callbacks."""
    st.session_state.pop(_REFUSED, None)
    try:
        what()
    except CompressionError as error:
        _refuse(str(error))


def cancel(entries: Sequence[StoredRun]) -> None:
    """Cancel runs. For callbacks."""

    def act() -> None:
        for entry in entries:
            store().jobs.cancel(entry.run.id)

    change(act)


def remove(run_id: str) -> None:
    """Delete a run; `removed` names it until something else is done, so that it can come back."""

    def act() -> None:
        store().runs.remove(run_id)
        st.session_state[_REMOVED] = run_id
        select(None)

    change(act)


def _refuse(sentence: str) -> None:
    st.session_state[_REFUSED] = (sentence, form())


def refused() -> str:
    """Why what was asked for last could not be done, until something else is or is set."""
    refusal: tuple[str, Form] | None = st.session_state.get(_REFUSED)
    return refusal[0] if refusal is not None and refusal[1] == form() else ""


def removed() -> str | None:
    """The run that was deleted last and can be restored."""
    run_id: str | None = st.session_state.get(_REMOVED)
    return run_id


def restore() -> None:
    """Bring back the run that was deleted last."""
    run_id = removed()
    if run_id is not None:
        change(lambda: store().runs.restore(run_id))
        st.session_state.pop(_REMOVED)
        select(run_id)
