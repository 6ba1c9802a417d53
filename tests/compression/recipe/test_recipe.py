"""Recipes: one canonical form, keys that identify, and errors that say what is allowed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.errors import InvalidInput
from compression.recipe import fields
from compression.recipe.base import BaseStep
from compression.recipe.fields import Choice, settings
from compression.recipe.prune import CHANNEL_SCORES
from compression.recipe.recipe import (
    Recipe,
    parse,
    parse_recipe,
    read_recipe,
)
from compression.recipe.steps import (
    STEPS,
    Distill,
    Prune,
    Quantize,
    Step,
)

fractions = st.floats(0, 1)
repairs = st.lists(st.sampled_from(["batchnorm", "bias"]), max_size=2).map(tuple)
scores = st.sampled_from(["magnitude", "activation", "taylor", "fisher", "obs", "random"])
prunes = st.one_of(
    st.builds(Prune, threshold=st.floats(0, 1e6), scope=st.sampled_from(["global", "layer"])),
    st.builds(
        Prune,
        sparsity=fractions,
        scope=st.sampled_from(["global", "layer", "allocated"]),
        score=scores,
        update=st.sampled_from(["none", "obs"]),
        repair=repairs,
    ),
    st.builds(Prune, pattern=st.sampled_from(["2:4", "4:8"]), score=scores, repair=repairs),
    st.builds(
        Prune,
        max_drop=st.floats(0, 100),
        pattern=st.just("channels"),
        score=st.sampled_from(CHANNEL_SCORES),
        update=st.sampled_from(["none", "obs"]),
        round_to=st.integers(1, 64),
    ),
)
quantizes = st.builds(
    Quantize,
    bits=st.integers(4, 8),
    scheme=st.sampled_from(["symmetric", "affine"]),
    granularity=st.sampled_from(["channel", "tensor"]),
    clipping=st.sampled_from(["mse", "minmax", "percentile"]),
    rounding=st.sampled_from(["nearest", "gptq", "reconstruct"]),
    edge_bits=st.none() | st.integers(2, 8),
    average_bits=st.none() | st.floats(2, 4),
    activation_bits=st.none() | st.integers(4, 8),
    repair=repairs,
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


@given(recipes)
def test_the_brief_form_is_the_same_recipe(recipe: Recipe) -> None:
    assert parse(Recipe, recipe.brief) == recipe


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
        "then distill for 1 epoch at T = 4."
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
    ({"step": "quantize", "repair": ["luck"]}, "steps.0.repair", "some of batchnorm, bias"),
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


# What a setting's extremes need beside them to be allowed.
BESIDE: dict[str, dict[str, Any]] = {
    "distill initial": {"student": "fashion-mnist/resnet18"},
    "distill layers": {"loss": "attention"},
    "threshold": {},
    "sparsity": {},
    "max_drop": {},
    "batchnorm": {"sparsity": 0.5, "pattern": "channels"},
    "2:4": {},
    "4:8": {},
}


def beside(step: str, name: str, value: Any = None) -> dict[str, Any]:
    if step != "prune":
        return BESIDE.get(f"{step} {name}", {})
    return BESIDE.get(name, BESIDE.get(str(value), {"sparsity": 0.5}))


@pytest.mark.parametrize("name", STEPS)
def test_settings_agree_with_what_validation_allows(name: str) -> None:
    for setting in settings(STEPS[name]):
        assert setting.title
        assert setting.help.endswith(".")
        allowed: list[Any] = [v for v in (setting.high, setting.low) if v is not None]
        if setting.above:
            allowed = allowed[:1]
        if setting.choices:
            allowed = [(v,) for v in setting.choices] if setting.several else [*setting.choices]
        for value in [*allowed, setting.default] if setting.optional else allowed:
            if value is None and setting.name in ("threshold", "sparsity", "max_drop"):
                continue
            around = beside(name, setting.name) | beside(name, setting.name, value)
            if value in ("2:4", "4:8"):
                around = {}
            parse(STEPS[name], {**around, setting.name: value})
        if setting.text:
            continue  # which names there are is not known to a recipe
        too_far: list[object] = ["nonsense"] if setting.choices else [(setting.low or 0) - 1]
        if setting.high is not None:
            too_far.append(setting.high + 1)
        if setting.above:
            too_far.append(setting.low)
        for wrong in too_far:
            with pytest.raises(InvalidInput) as caught:
                parse(STEPS[name], {**beside(name, setting.name), setting.name: wrong})
            assert caught.value.field == setting.name
            assert setting.allowed in str(caught.value)


def test_a_name_in_several_steps_is_the_same_setting_so_that_each_can_be_a_flag() -> None:
    found: dict[str, Any] = {}
    for setting in (s for step in STEPS.values() for s in settings(step)):
        assert found.setdefault(setting.name, setting) == setting
    flags = [s.flag for s in found.values()]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pattern": "2:4", "sparsity": 0.5}, "2:4 says how many go"),
        ({"threshold": 0.1, "score": "obs"}, "a threshold only with score magnitude"),
        ({"threshold": 0.1, "pattern": "channels"}, "a threshold only with pattern unstructured"),
        ({"sparsity": 0.5, "pattern": "channels", "score": "obs"}, "pattern channels with score"),
        ({"sparsity": 0.5, "pattern": "channels", "scope": "allocated"}, "scope global or layer"),
        ({"sparsity": 0.5, "score": "batchnorm"}, "only with pattern channels"),
        ({"sparsity": 0.5, "max_drop": 1}, "exactly one"),
    ],
    ids=str,
)
def test_settings_that_exclude_each_other_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse(Prune, values)


def test_an_average_is_at_most_the_most_a_layer_may_get() -> None:
    assert parse(Quantize, {"bits": 4, "average_bits": 4}).average_bits == 4
    with pytest.raises(InvalidInput, match="average_bits of at most bits"):
        parse(Quantize, {"bits": 4, "average_bits": 4.5})


@pytest.mark.parametrize("text", ["bias,batchnorm", "batchnorm, bias", ["bias", "batchnorm"]])
def test_several_choices_are_one_set_however_they_are_written(text: Any) -> None:
    found = parse(Quantize, {"repair": text})
    assert found == Quantize(repair=("batchnorm", "bias"))
    assert parse(Quantize, {"repair": "none"}) == Quantize()


def test_sentences_say_how_in_brackets() -> None:
    prune = Prune(sparsity=0.8, score="obs", update="obs", repair=("batchnorm",))
    quantize = Quantize(bits=4, rounding="gptq", repair=("batchnorm",))
    assert Recipe(steps=(prune, quantize)).sentence() == (
        "Zero the least important 80 % of weights (OBS, compensated, "
        "batch norm re-estimated), "
        "then store the rest in 4 bits (GPTQ, batch norm re-estimated)."
    )
    assert Prune(pattern="2:4").sentence() == "keep 2 of every 4 weights"
    assert Prune(max_drop=1, pattern="channels").sentence() == (
        "remove as many channels as an accuracy drop of 1 point allows"
    )
    mixed = Quantize(average_bits=3.5, activation_bits=8)
    assert mixed.sentence() == "store the weights in 3.5 bits on average, activations in 8"


def test_training_settings_that_contradict_each_other_are_refused() -> None:
    for values, said in (
        ({"mixup": 0.2, "loss": "dkd"}, "mixup with another loss than dkd"),
        ({"initial": "fresh"}, "initial fresh only with a student"),
        ({"layers": ("layer1",)}, "layers only with loss attention or features"),
    ):
        with pytest.raises(InvalidInput, match=said):
            parse(Distill, values)
    student = Distill(student="fashion-mnist/resnet18")
    assert Recipe(steps=(student, Quantize())).steps[0] == student
    with pytest.raises(InvalidInput, match="a student only in the first step"):
        parse(Recipe, {"steps": [Quantize().model_dump(), student.model_dump()]})


def test_new_settings_left_old_keys_as_they_were() -> None:
    """Keys of recipes that are in people's stores and addresses."""
    assert Recipe(steps=(Distill(),)).key == Recipe(steps=(Distill(loss="hinton"),)).key
    assert Recipe(steps=(Quantize(bits=2), Distill(epochs=2))).key == "953fb46529e0"


@pytest.mark.parametrize(
    ("recipe", "searches"),
    [
        (Recipe(steps=(Prune(sparsity=0.5),)), False),
        (Recipe(), False),
        (Recipe(steps=(Quantize(bits=4, margin="interval"),)), False),
        (Recipe(steps=(Prune(max_drop=1.0),)), True),
        (Recipe(steps=(Quantize(keep_accuracy=0.99),)), True),
        (Recipe(steps=(Distill(), Quantize(bits=4))), True),  # which model is kept
    ],
)
def test_a_recipe_says_whether_it_searches(recipe: Recipe, searches: bool) -> None:
    assert recipe.searches is searches


def test_renamed_settings_are_read_by_both_names_and_stored_under_the_old() -> None:
    old = parse(Quantize, {"rate": 2.0, "rest": "float16"})
    assert old == parse(Quantize, {"rd_lambda": 2.0, "other_dtype": "float16"})
    assert (old.rd_lambda, old.other_dtype) == (2.0, "float16")
    recipe = Recipe(steps=(old,))
    assert recipe.brief["steps"] == [{"step": "quantize", "rest": "float16", "rate": 2.0}]
    assert '"rest":"float16","rate":2.0' in recipe.to_json()
    assert recipe.key == "c4dbc86c20ef"
    for name in ("rate", "rd_lambda"):
        with pytest.raises(InvalidInput, match=f"^{name}: got -1, allowed: from 0 to 10000$"):
            parse(Quantize, {name: -1})
    with pytest.raises(InvalidInput, match="rd_lambda: got 2, allowed: no such setting"):
        parse(Quantize, {"rate": 1, "rd_lambda": 2})


@pytest.mark.parametrize("step", STEPS)
def test_every_choice_says_what_it_is_and_does(step: str) -> None:
    for setting in settings(STEPS[step]):
        assert tuple(setting.words) == setting.choices
        for choice in setting.words.values():
            assert choice.label[0].isupper() or not choice.label[0].isalpha()
            assert choice.help and not choice.help.endswith(".")


def test_words_for_other_choices_than_there_are_is_a_mistake() -> None:
    class Odd(BaseStep):
        score: Literal["a", "b"] = fields.setting(
            "a", title="Score", help="Which.", choices={"a": Choice("A", "first")}
        )

    with pytest.raises(TypeError, match="score"):
        settings(Odd)
