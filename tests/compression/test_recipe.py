"""Recipes: one canonical form, keys that identify, and errors that say what is allowed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.errors import InvalidInput
from compression.recipe import Recipe, parse, parse_recipe, read_recipe
from compression.settings import settings
from compression.steps import STEPS, Distill, Prune, Quantize, Step

fractions = st.floats(0, 1)
prunes = st.one_of(
    st.builds(Prune, threshold=st.floats(0, 1e6), scope=st.sampled_from(["global", "layer"])),
    st.builds(Prune, sparsity=fractions, scope=st.sampled_from(["global", "layer"])),
)
quantizes = st.builds(
    Quantize,
    bits=st.integers(2, 8),
    scheme=st.sampled_from(["symmetric", "affine"]),
    granularity=st.sampled_from(["channel", "tensor"]),
    clipping=st.sampled_from(["mse", "minmax"]),
)
distills = st.builds(
    Distill,
    temperature=st.floats(0, 50, exclude_min=True),
    alpha=fractions,
    epochs=st.integers(1, 100),
    learning_rate=st.floats(0, 1, exclude_min=True),
)
recipes = st.builds(
    Recipe,
    steps=st.lists(st.one_of(prunes, quantizes, distills), max_size=6).map(tuple),
    seed=st.integers(0, 2**31 - 1),
)


@given(recipes)
def test_json_round_trip(recipe: Recipe) -> None:
    assert parse_recipe(recipe.to_json()) == recipe
    assert parse_recipe(recipe.to_json()).to_json() == recipe.to_json()


@given(recipes)
def test_key_ignores_whether_a_default_is_spelled_out(recipe: Recipe) -> None:
    short = recipe.model_dump(mode="json", exclude_defaults=True)
    kinds = [{"step": s.step} for s in recipe.steps]
    short["steps"] = [k | s for k, s in zip(kinds, short.get("steps", []), strict=True)]
    assert parse(Recipe, short).key == recipe.key == parse_recipe(recipe.to_json()).key


@given(recipes, recipes)
def test_keys_are_equal_exactly_when_recipes_are(a: Recipe, b: Recipe) -> None:
    assert (a.key == b.key) == (a == b)


@given(recipes, st.data())
def test_key_changes_with_any_one_change(recipe: Recipe, data: st.DataObject) -> None:
    other = recipe.seed + 1 if recipe.seed < 2**31 - 1 else 0
    assert recipe.model_copy(update={"seed": other}).key != recipe.key
    longer = (*recipe.steps, data.draw(prunes))
    assert recipe.model_copy(update={"steps": longer}).key != recipe.key


def test_zero_and_minus_zero_have_one_key() -> None:
    minus, plus = (Recipe(steps=(Prune(threshold=v),)) for v in (-0.0, 0.0))
    assert minus == plus
    assert minus.key == plus.key


def test_order_of_steps_changes_the_key() -> None:
    steps: tuple[Step, Step] = (Prune(sparsity=0.5), Quantize(bits=4))
    assert Recipe(steps=steps).key != Recipe(steps=steps[::-1]).key


def test_keys_stay_what_they_were() -> None:
    # Stored runs are found by these: a change here loses everybody's cache and map.
    assert Recipe().key == "9a8a8cfdf4ed"
    assert Recipe(steps=(Prune(sparsity=0.8), Quantize(bits=4))).key == "3d70316f877b"


@given(recipes)
def test_chain_of_parents_ends_at_the_original(recipe: Recipe) -> None:
    chain = [recipe]
    while (parent := chain[-1].parent) is not None:
        chain.append(parent)
    assert [len(r.steps) for r in chain] == list(range(len(recipe.steps), -1, -1))
    assert all(r.seed == recipe.seed and r.steps == recipe.steps[: len(r.steps)] for r in chain)
    assert chain[-1].steps == ()


@given(recipes)
def test_sentence_is_one_line_ending_in_a_full_stop(recipe: Recipe) -> None:
    text = recipe.sentence()
    assert text.endswith(".")
    assert "\n" not in text
    assert text[0].isupper()


def test_sentence_says_what_will_happen() -> None:
    recipe = Recipe(steps=(Prune(sparsity=0.8), Quantize(bits=4), Distill()))
    assert recipe.sentence() == (
        "Zero the smallest 80 % of weights, store the rest in 4 bits, "
        "then teach for 1 epoch at T = 4."
    )


BAD: list[tuple[Any, str, str]] = [
    ({"step": "prune", "threshold": -1}, "threshold", "-1"),
    ({"step": "prune", "sparsity": 1.5}, "sparsity", "from 0 to 1"),
    ({"step": "prune", "sparsity": -0.1}, "sparsity", "from 0 to 1"),
    ({"step": "prune", "sparsity": float("nan")}, "sparsity", "nan"),
    ({"step": "prune", "threshold": float("inf")}, "threshold", "inf"),
    ({"step": "prune"}, "steps.0", "exactly one of threshold, sparsity and max_drop"),
    ({"step": "prune", "threshold": 0.1, "sparsity": 0.1}, "steps.0", "exactly one"),
    ({"step": "quantize", "bits": 1}, "bits", "a whole number from 2 to 8"),
    ({"step": "quantize", "bits": 33}, "bits", "33"),
    ({"step": "quantize", "bits": 4.5}, "bits", "4.5"),
    ({"step": "quantize", "scheme": "round"}, "scheme", "symmetric, affine"),
    ({"step": "quantize", "quantize": 1}, "steps.0.quantize", "no such setting"),
    ({"step": "distill", "temperature": 0}, "temperature", "from 0 to 50, above 0"),
    ({"step": "distill", "epochs": 0}, "epochs", "a whole number from 1 to 100"),
    ({"step": "melt"}, "step", "prune, quantize, distill"),
    ({"sparsity": 0.5}, "step", "prune, quantize, distill"),
    (7, "steps.0", "a JSON object"),
]


@pytest.mark.parametrize(("step", "field", "allowed"), BAD, ids=str)
def test_a_bad_step_is_refused_in_one_line(step: Any, field: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(Recipe, {"steps": [step]})
    assert field in caught.value.field
    assert allowed in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "recipe: got ''"),
        ("[]", "a JSON object"),
        ("{", "a JSON object"),
        ("[" * 100_000, "a JSON object"),
        ('{"steps": 5}', "steps: got 5, allowed: a list"),
        ('{"steps": null}', "a list"),
        ('{"seed": -1}', "seed: got -1, allowed: a whole number from 0 to 2147483647"),
        ('{"prune": {"sparsity": 0.5}}', "prune: got {'sparsity': 0.5}, allowed: no such"),
        ('{"a\\nb": 1}', "a b: got 1"),
        (json.dumps({"steps": [{"step": "quantize"}] * 33}), "at most 32"),
    ],
    ids=range(10),
)
def test_a_bad_document_is_refused_in_one_short_line(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_recipe(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_files(tmp_path: Path) -> None:
    recipe = Recipe(steps=(Quantize(bits=3),), seed=7)
    path = tmp_path / "recipe.json"
    path.write_text(recipe.to_json(), encoding="utf-8-sig")
    assert read_recipe(path) == recipe
    path.write_bytes(b"\xff\xfe\x00")
    for unreadable in (tmp_path, tmp_path / "none.json", path):
        with pytest.raises(InvalidInput, match="recipe: got"):
            read_recipe(unreadable)


def test_recipes_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 1


def test_errors_travel_between_processes() -> None:
    error = InvalidInput("bits", 33, "2 to 8")
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), twin.field) == (InvalidInput, str(error), "bits")


@pytest.mark.parametrize("name", STEPS)
def test_settings_agree_with_what_validation_allows(name: str) -> None:
    needed = {"prune": {"sparsity": 0.5}}.get(name, {})
    for setting in settings(STEPS[name]):
        assert setting.title
        assert setting.help.endswith(".")
        base = {} if setting.name in ("threshold", "sparsity") else needed
        allowed = setting.choices or [v for v in (setting.high, setting.low) if v is not None]
        for value in allowed[:1] if setting.above else allowed:
            parse(STEPS[name], {**base, setting.name: value})
        too_far: list[object] = ["nonsense"] if setting.choices else [(setting.low or 0) - 1]
        if setting.high is not None:
            too_far.append(setting.high + 1)
        if setting.above:
            too_far.append(setting.low)
        for wrong in too_far:
            with pytest.raises(InvalidInput) as caught:
                parse(STEPS[name], {**base, setting.name: wrong})
            assert caught.value.field == setting.name
            assert setting.allowed in str(caught.value)


def test_names_of_settings_are_unique_so_that_each_can_be_a_flag() -> None:
    names = [s.name for step in STEPS.values() for s in settings(step)]
    assert len(names) == len(set(names))
