"""What the page reads beside the settings: the store, the catalogue, how long runs take."""

from __future__ import annotations

import os
from functools import cache

import streamlit as st

from compression.catalogue.cards import Card, Weights, cards
from compression.catalogue.examples import Example, examples, put_examples
from compression.catalogue.preset_timings import preset_seconds
from compression.paths import STORE_VARIABLE
from compression.recipe.recipe import parse_recipe
from compression.runs.durations.expected import estimate
from compression.runs.results import State
from compression.runs.store import Store, StoredRun, open_store

FIRST_MODEL = "fashion-mnist/resnet18"


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


def name_of(entry: StoredRun) -> str:
    """What a run is called: as somebody named it, as the example it is, or by its settings."""
    example = example_of(entry.run.id)
    return example.title if example and not entry.name else entry.title


def seconds_of(entry: StoredRun) -> float | None:
    """Seconds that a run will take from its start, by earlier runs of its model; None where
    nothing tells."""
    return _seconds_of(store().url, entry.run.model, entry.run.recipe.to_json())


# For all who watch a queue: it is asked for every second, and changes only when a run has ended.
@st.cache_data(ttl=10.0, show_spinner=False, max_entries=1000)
def _seconds_of(url: str, model: str, recipe_json: str) -> float | None:
    recipe = parse_recipe(recipe_json)
    earlier = [e.run for e in store().runs.find(model, (State.DONE,))]
    return estimate(recipe, earlier, preset_seconds(model, recipe))
