"""Presets: they say how, never how much, and never make a recipe that is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.errors import InvalidInput
from compression.recipe import presets
from compression.recipe.calibration_need import needs_images
from compression.recipe.fields import settings
from compression.recipe.inactive_fields import inactive_reasons, is_compatible
from compression.recipe.presets import (
    PRESETS,
    apply_preset,
    available,
    merge,
    method_settings,
    preset_of,
)
from compression.recipe.recipe import Recipe, parse
from compression.recipe.steps import (
    STEPS,
    Distill,
    Prune,
    Quantize,
)

amounts = st.one_of(
    st.fixed_dictionaries({"threshold": st.floats(0, 1)}),
    st.fixed_dictionaries({"sparsity": st.floats(0, 1)}, optional={"pattern": st.just("channels")}),
    st.fixed_dictionaries({"max_drop": st.floats(0, 9)}, optional={"pattern": st.just("channels")}),
    st.fixed_dictionaries({"pattern": st.sampled_from(["2:4", "4:8"])}),
)
asked = st.one_of(
    amounts.map(lambda values: {"step": "prune", **values}),
    st.fixed_dictionaries(
        {"step": st.just("quantize"), "bits": st.integers(4, 8)},
        optional={
            "average_bits": st.floats(2, 4),
            "activation_bits": st.integers(4, 8),
            "edge_bits": st.integers(2, 8),
        },
    ),
)
names = st.sampled_from(list(PRESETS))


@given(names, asked)
def test_a_preset_never_makes_a_refused_step_nor_touches_what_is_asked(
    name: str, values: dict[str, Any]
) -> None:
    made = apply_preset(name, values)
    parse(STEPS[values["step"]], made)
    assert {k: made[k] for k in values} == values
    assert made.keys() - values.keys() <= set(method_settings(values["step"]))
    assert not made.keys() & inactive_reasons(values["step"], made).keys() - values.keys()


@given(names, asked)
def test_a_recipe_made_by_a_preset_is_recognised(name: str, values: dict[str, Any]) -> None:
    step = parse(STEPS[values["step"]], apply_preset(name, values))
    recipe = parse(Recipe, {"steps": [step.model_dump()]})
    assert preset_of(recipe, first=name) == name
    assert preset_of(recipe) is not None


@given(names, asked, st.data())
def test_explicit_settings_win(name: str, values: dict[str, Any], data: st.DataObject) -> None:
    step = values["step"]
    choices = [
        s for s in settings(STEPS[step]) if s.name in method_settings(step) and not s.several
    ]
    setting = data.draw(st.sampled_from(choices))
    value = data.draw(st.sampled_from(setting.choices))
    if is_compatible(step, values, setting.name, value):
        made = apply_preset(name, {**values, setting.name: value})
        assert made[setting.name] == value
        parse(STEPS[step], made)


@given(names, asked)
def test_without_images_nothing_of_a_preset_needs_them(name: str, values: dict[str, Any]) -> None:
    if name in available(False):
        added = apply_preset(name, values, images=False)
        assert not [k for k in added.keys() - values.keys() if needs_images(k, added[k])]
    else:
        with pytest.raises(InvalidInput, match="images to calibrate on"):
            apply_preset(name, values, images=False)


def test_presets_name_settings_that_exist_and_values_that_are_allowed() -> None:
    assert list(PRESETS) == [p.name for p in PRESETS.values()]
    assert presets.DEFAULT_PRESET in PRESETS
    beside: dict[str, dict[str, Any]] = {"prune": {"sparsity": 0.5}, "quantize": {}, "distill": {}}
    for preset in PRESETS.values():
        for step, values in preset.values.items():
            parse(STEPS[step], {**beside[step], **values})
            assert values.keys() <= set(method_settings(step))


def test_a_threshold_keeps_magnitude_and_channels_get_a_score_of_their_own() -> None:
    single = apply_preset("better", {"step": "prune", "threshold": 0.1})
    assert single.get("score", "magnitude") == "magnitude"
    whole = apply_preset("better", {"step": "prune", "sparsity": 0.5, "pattern": "channels"})
    assert whole["score"] == "taylor" and whole["update"] == "obs"
    assert "score" not in apply_preset("fast", {"step": "prune", "pattern": "channels"})


def test_other_recipes_are_of_no_preset() -> None:
    assert preset_of(Recipe(steps=(Prune(sparsity=0.8, score="random"),))) is None
    assert preset_of(Recipe(steps=(Quantize(bits=4, scheme="affine"),))) is None
    assert preset_of(Recipe(steps=(Distill(),))) is None
    assert preset_of(Recipe(steps=(Distill(augmentation="none"),))) == presets.DEFAULT_PRESET
    assert preset_of(Recipe(steps=(Quantize(bits=4),)), images=False) == "fast"


def test_of_what_is_wished_only_what_goes_with_the_given_is_taken() -> None:
    given_ = {"pattern": "channels", "sparsity": 0.5}
    wished = {"sparsity": 0.9, "score": "fisher", "scope": "layer", "round_to": 4, "update": "obs"}
    fitting = {"scope": "layer", "round_to": 4, "update": "obs"}
    assert merge("prune", given_, wished) == {**given_, **fitting}
    assert set(inactive_reasons("quantize", {"bits": 4})) == {
        "sensitivity",
        "margin",
        "activation_clipping",
        "activation_granularity",
    }
