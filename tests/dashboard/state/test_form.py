"""Sliders to recipe, to URL, and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compression.catalogue.cards import Card, Weights, cards
from compression.catalogue.starting_points import starting_points
from compression.errors import InvalidInput
from compression.recipe.calibration_need import needs_images
from compression.recipe.presets import (
    DEFAULT_PRESET,
    PRESETS,
    WHOLE,
    available,
    method_settings,
)
from compression.recipe.recipe import Recipe, parse
from compression.recipe.steps import STEPS, Quantize
from dashboard.state.defaults import first_form, first_runs, refusal
from dashboard.state.form import (
    AMOUNTS,
    CUSTOM,
    DEVICES,
    KEYS,
    NAMES,
    PLAIN,
    SETTINGS,
    STEP_OF,
    Form,
    choices,
    from_recipe,
    in_force,
    method_of,
    settled,
    to_recipe,
    with_preset,
    without_effect,
)
from dashboard.state.url import from_params, to_params

# Values as the widgets give them; a setting not named here is drawn from what it says it allows.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "prune": st.booleans(),
    "quantize": st.booleans(),
    "distill": st.booleans(),
    "mixed": st.booleans(),
    "amount": st.sampled_from(AMOUNTS),
    "seed": st.integers(0, 2**31 - 1),
    "device": st.sampled_from(list(DEVICES)),
    "threshold": st.floats(0, 2).map(lambda v: float(f"{v:.2e}")),
    "sparsity": st.integers(0, 199).map(lambda v: v / 200),
    "max_drop": st.integers(0, 50).map(lambda v: v / 10),
    "average_bits": st.integers(8, 32).map(lambda v: v / 4),
    "temperature": st.integers(1, 100).map(lambda v: v / 2),
    "alpha": st.integers(0, 20).map(lambda v: v / 20),
    "learning_rate": st.integers(1, 200).map(lambda v: v / 200),
}


def _drawn(name: str) -> st.SearchStrategy[Any]:
    if name in VALUES:
        return VALUES[name]
    setting = SETTINGS[name]
    if setting.text:
        names = st.sampled_from(["layer1", "stages.2.conv", "a:b", "other/model"])
        if setting.several:
            return st.sets(names).map(lambda v: tuple(sorted(v)))
        return st.none() | names
    if setting.several:
        return st.sets(st.sampled_from(setting.choices)).map(lambda v: tuple(sorted(v)))
    if setting.choices:
        return st.sampled_from(setting.choices)
    low, high = setting.low, setting.high
    assert low is not None and high is not None
    if setting.integer:
        whole = st.integers(int(low), int(high))
        return st.none() | whole if setting.optional else whole
    # to six digits, which is what a URL keeps
    shares = st.integers(1 if setting.above else 0, 200)
    return shares.map(lambda v: float(f"{low + (high - low) * v / 200:.6g}"))


FORMS = st.fixed_dictionaries({name: _drawn(name) for name in NAMES}).map(settled)
WEIGHTS = Weights(
    quantiles=tuple(i / 100 for i in range(101)),
    largest={"layer1": 1.0, "layer2": 0.5},
    counts={"layer1": 900, "layer2": 100},
)


@pytest.mark.slow
@given(FORMS)
def test_url_gives_the_same_recipe_back(form: Form) -> None:
    back, problems = from_params(to_params(form), PLAIN)
    assert problems == ()
    assert to_recipe(back) == to_recipe(form)
    assert back["device"] == form["device"]


@pytest.mark.slow
@given(FORMS)
def test_a_runs_recipe_sets_the_sliders_that_make_it(form: Form) -> None:
    recipe = to_recipe(form)
    back = from_recipe(recipe)
    assert back is not None
    assert to_recipe(back) == recipe


@pytest.mark.slow
@given(FORMS)
def test_settled_settings_stay_as_they_are(form: Form) -> None:
    assert settled(form) == form


@pytest.mark.slow
@settings(max_examples=20)  # each looks at every choice of every setting
@given(FORMS)
def test_every_choice_that_is_offered_can_be_taken(form: Form) -> None:
    form = settled({**form, "prune": True, "quantize": True, "distill": True})
    for key in [k for k, s in SETTINGS.items() if s.choices and without_effect(form, k) is None]:
        for choice in choices(form, key):
            value = (choice,) if SETTINGS[key].several else choice
            # another pattern is settled with the rest, as the page does
            to_recipe(settled({**form, key: value}))
            if SETTINGS[key].name not in ("pattern", "loss"):
                assert to_recipe(settled({**form, key: value})) == to_recipe({**form, key: value})
        assert form[key] in choices(form, key) or SETTINGS[key].several


@pytest.mark.slow
@given(FORMS, st.sampled_from(list(PRESETS)))
def test_a_preset_is_recognised_and_touches_only_how_steps_work(form: Form, name: str) -> None:
    made = with_preset(form, name)
    assert method_of(made, first=name) == name
    how = {KEYS[step][name] for step in KEYS for name in method_settings(step)}
    assert {k: v for k, v in made.items() if k not in how} == {
        k: v for k, v in form.items() if k not in how
    }
    assert with_preset(made, name) == made == settled(made)


@pytest.mark.slow
@given(FORMS)
def test_without_images_nothing_that_needs_them_is_left(form: Form) -> None:
    made = settled(form, images=False)
    for step in to_recipe(made).steps:
        assert step.step != "distill"
        assert not [name for name, value in step if needs_images(name, value)]
    assert method_of(with_preset(made, "fast", images=False), images=False) == "fast"


def test_a_finer_setting_by_hand_is_a_method_of_ones_own() -> None:
    form = with_preset(PLAIN, "better")
    assert method_of(form) == "better"
    for key, value in (("scheme", "affine"), ("score", "fisher"), ("quantize_repair", ("bias",))):
        assert method_of({**form, key: value}) == CUSTOM
    # what is asked for is not how it is done
    for key, value in (("bits", 3), ("activation_bits", 8), ("edge_bits", 8), ("sparsity", 0.9)):
        assert method_of({**form, key: value}) == "better"


def test_every_setting_of_every_step_is_in_the_form() -> None:
    assert {key for keys in KEYS.values() for key in keys.values()} == set(SETTINGS) < set(NAMES)
    assert (KEYS["prune"]["repair"], KEYS["quantize"]["repair"]) == (
        "prune_repair",
        "quantize_repair",
    )


ODD = [*SETTINGS, "repair", "seed", "device", "steps", "x"]
TEXTS = st.one_of(
    st.text(), st.sampled_from(["2:4", "channels", "obs", "batchnorm", "8", "2.5", "0", "kl"])
)


@given(st.dictionaries(st.sampled_from(ODD), TEXTS), st.booleans())
def test_no_url_can_break_the_page(params: dict[str, str], images: bool) -> None:
    form, problems = from_params(params, first_form(None, images), images)
    to_recipe(form)
    assert all("instead" in line or "is not used" in line for line in problems)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("threshold", "-0.1"),
        ("sparsity", "1.5"),
        ("sparsity", "nan"),
        ("max_drop", "101"),
        ("bits", "1"),
        ("bits", "33"),
        ("bits", "4.5"),
        ("edge_bits", "9"),
        ("activation_bits", "3"),
        ("rounding", "down"),
        ("pattern", "3:4"),
        ("prune_repair", "luck"),
        ("temperature", "0"),
        ("temperature", "inf"),
        ("scope", "everywhere"),
        ("epochs", "0"),
        ("decay", "0"),
        ("momentum", "1"),
        ("images", "99"),
        ("early_stopping", "2.5"),
        ("student", "a,b"),
        ("student", ""),
        ("optimizer", "luck"),
        ("seed", "-1"),
        ("device", "tpu"),
    ],
)
def test_a_wrong_parameter_is_named_and_left_out(name: str, text: str) -> None:
    form, problems = from_params({name: text}, PLAIN)
    assert form[name] == PLAIN[name]
    assert len(problems) == 1
    assert name in problems[0]
    assert repr(text) in problems[0]


@pytest.mark.parametrize(
    ("params", "left_out"),
    [
        ({"threshold": "0.01", "score": "obs"}, "score"),
        ({"threshold": "0.01", "pattern": "channels"}, "pattern"),
        ({"pattern": "2:4", "sparsity": "0.7"}, "sparsity"),
        ({"sparsity": "0.7", "score": "batchnorm"}, "score"),
        ({"sparsity": "0.7", "pattern": "channels", "scope": "allocated"}, "scope"),
        ({"bits": "3", "average_bits": "4"}, "average_bits"),
        ({"bits": "3", "activation_clipping": "kl"}, "activation_clipping"),
        ({"epochs": "2", "decay": "0.5"}, "decay"),
        ({"temperature": "2", "schedule": "one-cycle", "warmup": "0.1"}, "warmup"),
        ({"temperature": "2", "loss": "dkd", "mixup": "0.2"}, "mixup"),
        ({"temperature": "2", "loss": "hinton", "layers": "a,b"}, "layers"),
    ],
    ids=str,
)
def test_what_does_not_go_together_in_a_url_is_said(params: dict[str, str], left_out: str) -> None:
    form, problems = from_params(params, PLAIN)
    to_recipe(form)
    assert len(problems) == 1
    assert problems[0].startswith(f"{left_out}: {params[left_out]!r}")


@pytest.mark.parametrize(
    ("params", "made"),
    [
        ({"sparsity": "0.8", "bits": "4"}, [{"step": "prune", "sparsity": 0.8}, 4]),
        ({"threshold": "0.02"}, [{"step": "prune", "threshold": 0.02}]),
        (
            {"sparsity": "0.9", "scope": "layer"},
            [{"step": "prune", "sparsity": 0.9} | {"scope": "layer"}],
        ),
        ({"pattern": "2:4"}, [{"step": "prune", "pattern": "2:4"}]),
        (
            {"max_drop": "1", "repair": "bias"},
            [{"step": "prune", "max_drop": 1, "repair": ["bias"]}],
        ),
        ({"epochs": "5"}, [{"step": "distill", "epochs": 5}]),
        (
            {"temperature": "2", "loss": "features", "layers": "b, a", "early_stopping": "3"},
            [
                {"step": "distill", "temperature": 2, "loss": "features", "early_stopping": 3}
                | {"layers": ["a", "b"]}
            ],
        ),
        (
            {"sparsity": "0.5", "temperature": "4", "student": "x/y", "initial": "fresh"},
            [
                {"step": "distill", "student": "x/y", "initial": "fresh"},
                {"step": "prune", "sparsity": 0.5},
            ],
        ),
        ({"steps": "none"}, []),
    ],
    ids=str,
)
def test_urls_mean_what_they_always_meant(params: dict[str, str], made: list[Any]) -> None:
    start = with_preset(PLAIN, "better")
    steps = [{"step": "quantize", "bits": s} if isinstance(s, int) else s for s in made]
    form, problems = from_params(params, start)
    assert problems == ()
    assert to_recipe(form) == parse(Recipe, {"steps": steps})


def test_a_setting_of_several_steps_is_named_once_where_they_agree() -> None:
    both = {**PLAIN, "prune_repair": ("bias",), "quantize_repair": ("bias",)}
    assert to_params(both)["repair"] == "bias"
    one = {**PLAIN, "prune_repair": ("batchnorm", "bias")}
    assert to_params(one)["prune_repair"] == "batchnorm,bias"
    assert not to_params(one).keys() & {"repair", "quantize_repair"}


def test_addresses_from_before_a_renaming_mean_the_same() -> None:
    old, problems = from_params({"bits": "4", "rate": "2", "rest": "float16"}, PLAIN)
    new, _ = from_params({"bits": "4", "rd_lambda": "2", "other_dtype": "float16"}, PLAIN)
    assert problems == () and old == new
    assert to_recipe(old).steps == (Quantize(bits=4, rd_lambda=2, other_dtype="float16"),)


def test_every_choice_has_words_of_its_own() -> None:
    for key, setting in SETTINGS.items():
        labels = [setting.label(choice) for choice in setting.choices]
        assert len(set(labels)) == len(labels)
        if STEP_OF[key] == "distill" or key == "other_dtype":
            assert not set(labels) & set(setting.choices), key


def test_sliders_cannot_show_every_recipe() -> None:
    twice = {"steps": [{"step": "quantize", "bits": 8}, {"step": "quantize", "bits": 4}]}
    assert from_recipe(parse(Recipe, twice)) is None


def test_slider_values_are_checked_again() -> None:
    with pytest.raises(InvalidInput, match="bits"):
        to_recipe({**PLAIN, "bits": 33})


def test_emptied_layer_is_refused_with_what_is_allowed() -> None:
    form = {**PLAIN, "amount": "threshold", "threshold": 0.7}
    text = refusal(form, WEIGHTS)
    assert text is not None
    assert "layer2" in text
    assert "at most 0.5" in text
    assert refusal({**form, "threshold": 0.5}, WEIGHTS) is None
    assert refusal({**form, "prune": False}, WEIGHTS) is None


def test_full_sparsity_is_refused_even_without_known_weights() -> None:
    assert refusal({**PLAIN, "sparsity": 1.0}, None)
    assert refusal({**PLAIN, "sparsity": 0.9}, None) is None


def test_only_magnitudes_tell_beforehand_which_layers_are_emptied() -> None:
    nearly = {**PLAIN, "sparsity": 0.9}
    assert refusal(nearly, WEIGHTS)
    for key, value in (("score", "obs"), ("scope", "layer"), ("amount", "max_drop")):
        assert refusal({**nearly, key: value}, WEIGHTS) is None


def test_channels_are_refused_where_they_cannot_be_removed() -> None:
    form = {**PLAIN, "pattern": "channels"}
    assert "channel shuffle" in str(refusal(form, None, "shufflenet_v2_x0_5"))
    assert refusal(form, None, "resnet18") is None


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("weights", [WEIGHTS, None])
def test_suggested_settings_are_never_refused(weights: Weights | None, images: bool) -> None:
    start = first_form(weights, images)
    assert refusal(start, weights) is None
    runs = first_runs(start, weights, images)
    smallest = runs.pop("Smallest", None)
    assert (smallest is not None) == images
    if smallest is not None:
        steps = tuple(parse(STEPS[s["step"]], s) for s in WHOLE["smallest"].steps)
        assert to_recipe(smallest).steps == steps and settled(smallest) == smallest
    for form in [start, *runs.values()]:
        assert refusal(form, weights) is None
        assert settled(form, images) == form
        expected = DEFAULT_PRESET if DEFAULT_PRESET in available(images) else available(images)[0]
        assert method_of(form, images) == expected
        assert in_force(form, "quantize")["bits"] >= 6


BUNDLED = [c for c in cards().values() if c.bundled]


@pytest.mark.parametrize("card", BUNDLED, ids=lambda c: c.id)
def test_a_bundled_model_begins_with_what_was_measured_to_cost_about_half_a_point(
    card: Card,
) -> None:
    points = starting_points(card.id)
    assert [p.about for p in points] == [-0.005, -0.01, -0.03]
    start = first_form(card.weights, True, points)
    assert to_recipe(start) == points[0].recipe and settled(start) == start
    assert refusal(start, card.weights, card.architecture) is None
    runs = first_runs(start, card.weights, True, points)
    assert {*runs} == {*(p.title for p in points), "Smallest"}
    assert [to_recipe(runs[p.title]) for p in points] == [p.recipe for p in points]


@pytest.mark.parametrize("card", BUNDLED, ids=lambda c: c.id)
def test_a_starting_point_says_what_it_cost_on_the_test_images(card: Card) -> None:
    sizes = [point.size_ratio for point in starting_points(card.id)]
    assert sizes == sorted(sizes) and sizes[0] > 1
    for point in starting_points(card.id):
        assert point.change.n == 10_000
        # chosen on other images: by as much as chance allows, a little more may be lost
        assert point.change.value > point.about - 0.005
        assert (
            point.title == "Loses nothing"
            or f"{round(-100 * point.change.value, 2):g}" in point.title
        )
