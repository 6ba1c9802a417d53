"""Sliders to recipe, to URL, and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.catalogue import Weights
from compression.errors import InvalidInput
from compression.recipe import Recipe, parse
from dashboard.form import (
    SETTINGS,
    Form,
    first_form,
    first_runs,
    from_params,
    from_recipe,
    refusal,
    to_params,
    to_recipe,
)

FORMS = st.builds(
    Form,
    prune=st.booleans(),
    by_sparsity=st.booleans(),
    threshold=st.floats(0, 2).map(lambda v: float(f"{v:.2e}")),
    sparsity=st.integers(0, 199).map(lambda v: v / 200),
    scope=st.sampled_from(SETTINGS["scope"].choices),
    quantize=st.booleans(),
    bits=st.integers(2, 8),
    scheme=st.sampled_from(SETTINGS["scheme"].choices),
    granularity=st.sampled_from(SETTINGS["granularity"].choices),
    clipping=st.sampled_from(SETTINGS["clipping"].choices),
    distill=st.booleans(),
    temperature=st.integers(1, 100).map(lambda v: v / 2),
    alpha=st.integers(0, 20).map(lambda v: v / 20),
    epochs=st.integers(1, 100),
    learning_rate=st.integers(1, 200).map(lambda v: v / 200),
    seed=st.integers(0, 2**31 - 1),
    device=st.sampled_from(("auto", "cpu", "cuda")),
)
WEIGHTS = Weights(
    quantiles=tuple(i / 100 for i in range(101)),
    largest={"layer1": 1.0, "layer2": 0.5},
    counts={"layer1": 900, "layer2": 100},
)


@given(FORMS)
def test_url_gives_the_same_recipe_back(form: Form) -> None:
    back, problems = from_params(to_params(form), Form())
    assert problems == ()
    assert to_recipe(back) == to_recipe(form)
    assert back.device == form.device


@given(FORMS)
def test_a_runs_recipe_sets_the_sliders_that_make_it(form: Form) -> None:
    recipe = to_recipe(form)
    back = from_recipe(recipe)
    assert back is not None
    assert to_recipe(back) == recipe


@given(st.dictionaries(st.sampled_from([*SETTINGS, "seed", "device", "steps", "x"]), st.text()))
def test_no_url_can_break_the_page(params: dict[str, str]) -> None:
    form, problems = from_params(params, Form())
    to_recipe(form)
    assert all("instead" in sentence for sentence in problems)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("threshold", "-0.1"),
        ("sparsity", "1.5"),
        ("sparsity", "nan"),
        ("bits", "1"),
        ("bits", "33"),
        ("bits", "4.5"),
        ("temperature", "0"),
        ("temperature", "inf"),
        ("scope", "everywhere"),
        ("seed", "-1"),
        ("device", "tpu"),
    ],
)
def test_a_wrong_parameter_is_named_and_left_out(name: str, text: str) -> None:
    form, problems = from_params({name: text}, Form())
    assert getattr(form, name) == getattr(Form(), name)
    assert len(problems) == 1
    assert name in problems[0]
    assert repr(text) in problems[0]


def test_sliders_cannot_show_every_recipe() -> None:
    twice = {"steps": [{"step": "quantize", "bits": 8}, {"step": "quantize", "bits": 4}]}
    assert from_recipe(parse(Recipe, twice)) is None


def test_slider_values_are_checked_again() -> None:
    with pytest.raises(InvalidInput, match="bits"):
        to_recipe(replace(Form(), bits=33))


def test_emptied_layer_is_refused_with_what_is_allowed() -> None:
    form = replace(Form(), by_sparsity=False, threshold=0.7)
    text = refusal(form, WEIGHTS)
    assert text is not None
    assert "layer2" in text
    assert "at most 0.5" in text
    assert refusal(replace(form, threshold=0.5), WEIGHTS) is None
    assert refusal(replace(form, prune=False), WEIGHTS) is None


def test_full_sparsity_is_refused_even_without_known_weights() -> None:
    assert refusal(replace(Form(), by_sparsity=True, sparsity=1.0), None)
    assert refusal(replace(Form(), by_sparsity=True, sparsity=0.9), None) is None


@pytest.mark.parametrize("weights", [WEIGHTS, None])
def test_suggested_settings_are_never_refused(weights: Weights | None) -> None:
    start = first_form(weights)
    assert refusal(start, weights) is None
    for form in first_runs(start, weights).values():
        assert refusal(form, weights) is None
