"""Names of runs by their recipes: short, and different wherever a headline setting differs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from compression.recipe.base import BaseStep, plain
from compression.recipe.inactive_fields import inactive_reasons
from compression.recipe.presets import PRESETS, apply_preset
from compression.recipe.recipe import Recipe, parse
from compression.recipe.short_name import LONGEST, short_name, slug
from compression.recipe.steps import Distill, Prune, Quantize
from tests.compression.recipe.test_recipe import distills, prunes, quantizes, recipes

HEADLINES = {
    "prune": ("threshold", "sparsity", "max_drop", "pattern"),
    "quantize": (
        *("bits", "average_bits", "edge_bits", "activation_bits", "rd_lambda", "keep_accuracy"),
    ),
    "distill": ("temperature", "alpha", "epochs"),
}
rate_distortions = st.builds(
    Quantize,
    bits=st.integers(2, 8),
    rd_lambda=st.floats(0, 10_000),
    keep_accuracy=st.none() | st.floats(0, 1, exclude_min=True),
    activation_bits=st.none() | st.integers(4, 8),
)
channels = st.builds(Prune, sparsity=st.floats(0, 1) | st.just(0.5), pattern=st.just("channels"))
kinds = (prunes | channels, quantizes | rate_distortions, distills)
pairs = st.one_of(*(st.tuples(kind, kind) for kind in kinds))


def headline(step: BaseStep) -> dict[str, Any]:
    """What a step is asked to do, as far as it has an effect."""
    values = dict(step)
    inactive = inactive_reasons(values["step"], values)
    return {name: values[name] for name in HEADLINES[values["step"]] if name not in inactive}


def headlines(recipe: Recipe) -> list[Any]:
    return [(step.step, headline(step)) for step in recipe.steps]


@given(recipes, recipes)
def test_recipes_that_differ_in_a_headline_setting_never_share_a_name(a: Recipe, b: Recipe) -> None:
    assert headlines(a) == headlines(b) or short_name(a) != short_name(b)


@given(recipes, pairs, st.integers(0, 6), st.booleans())
def test_nor_do_recipes_that_differ_in_one_step(
    recipe: Recipe, pair: tuple[Any, Any], at: int, images: bool
) -> None:
    before, after = recipe.steps[:at], recipe.steps[at:]
    one, other = (recipe.model_copy(update={"steps": (*before, step, *after)}) for step in pair)
    same = headline(pair[0]) == headline(pair[1])
    assert same or short_name(one, images) != short_name(other, images)


@given(st.floats(0, 1e9), st.floats(0, 1e9))
@example(0.95, 0.9500000000000001)
@example(0.0, 5e-324)
@example(1e6, 1e7)
def test_numbers_are_written_alike_only_if_they_are_the_same(a: float, b: float) -> None:
    assert (plain(a) == plain(b)) == (plain(a, 2) == plain(b, 2)) == (a == b)
    assert float(plain(a)) == a


@given(recipes, st.booleans())
def test_a_name_is_one_short_line(recipe: Recipe, images: bool) -> None:
    name = short_name(recipe, images)
    assert 0 < len(name) <= LONGEST and name == name.strip() and name.isprintable()


@given(recipes.filter(lambda r: len(r.steps) < 3), st.integers(0, 2**31 - 1))
def test_the_seed_is_no_part_of_a_name_that_has_room(recipe: Recipe, seed: int) -> None:
    name = short_name(recipe)
    assert "…" in name or short_name(recipe.model_copy(update={"seed": seed})) == name


def by(preset: str, *steps: dict[str, Any]) -> Recipe:
    return parse(Recipe, {"steps": [apply_preset(preset, step) for step in steps]})


def of(*steps: Prune | Quantize | Distill) -> Recipe:
    return Recipe(steps=steps)


PRUNE = {"step": "prune", "sparsity": 0.95}
HALF = {"step": "prune", "sparsity": 0.5, "pattern": "channels"}
FOUR = {"step": "quantize", "bits": 4}


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (of(), "Original"),
        (by("better", PRUNE, FOUR), "95 % · 4 bit · Better"),
        (
            by("fast", {"step": "prune", "pattern": "2:4"}, {"step": "quantize"}),
            "2:4 · 8 bit · Fast",
        ),
        (by("best", {**FOUR, "activation_bits": 8}), "W4 A8 · Best"),
        (by("better", HALF, {"step": "quantize"}), "Half the channels · 8 bit · Better"),
        (of(Prune(sparsity=0.9), Quantize(bits=3), Distill(epochs=16)), "90 % · 3 bit · 16 epochs"),
        (of(Prune(sparsity=0.3, pattern="channels")), "30 % of channels"),
        (of(Prune(max_drop=1), Quantize(bits=4)), "≤ 1 point · 4 bit"),
        (of(Prune(max_drop=0.5, pattern="channels")), "≤ 0.5 points, channels"),
        (of(Prune(threshold=0.01)), "threshold 0.01"),
        (of(Prune(sparsity=0.29)), "29 %"),
        (of(Quantize(average_bits=2.5)), "~2.5 bit"),
        (of(Quantize(bits=4, average_bits=2.5, edge_bits=8)), "~2.5 bit, ≤ 4 bit, ends 8"),
        (of(Quantize(rd_lambda=2, activation_bits=8)), "λ 2, A8"),
        (of(Quantize(keep_accuracy=0.993)), "keeps 99.3 %"),
        (of(Quantize(bits=2), Distill(temperature=2, alpha=0.5)), "2 bit · 1 epoch, T 2, α 0.5"),
        (of(Distill(student="fashion-mnist/vgg11")), "into vgg11, 1 epoch"),
        (of(Distill(augmentation="none")), "1 epoch"),  # as every preset has it
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_runs_are_called(recipe: Recipe, name: str) -> None:
    assert short_name(recipe) == name


def test_without_images_the_method_is_one_that_can_do_without() -> None:
    plain_bits = of(Quantize(bits=4))
    assert short_name(plain_bits) == "4 bit"
    assert short_name(plain_bits, images=False) == f"4 bit · {PRESETS['fast'].title}"


def test_what_has_no_room_loses_the_method_first_and_then_ends_in_the_key() -> None:
    distill = {"step": "distill", "epochs": 16, "temperature": 2.0}
    assert (
        short_name(by("better", PRUNE, FOUR, distill)) == "95 % · 4 bit · 16 epochs, T 2 · Better"
    )
    distill["alpha"] = 0.5
    assert short_name(by("better", PRUNE, FOUR, distill)) == "95 % · 4 bit · 16 epochs, T 2, α 0.5"
    long = by("better", PRUNE, FOUR, PRUNE, FOUR, PRUNE, FOUR)
    assert short_name(long) == f"95 % · 4 bit · 95 % … 4 bit · {long.key[:6]}"
    exact = of(Distill(temperature=1.2345678901234567, alpha=0.12345678901234567, student="m/vgg"))
    assert short_name(exact) == f"into vgg, 1 epoch, T … {exact.key[:6]}"
    student = of(Distill(student=f"m/{'x' * 99}"))
    assert short_name(student) == f"into … {student.key[:6]}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("95 % · 4 bit · Better", "95pct-4bit-better"),
        ("90 % · 3 bit · 16 epochs, T 2.5", "90pct-3bit-16epochs-t-2.5"),
        ("2:4 · 8 bit · Fast", "2-4-8bit-fast"),
        ("≤ 1 point · 4 bit", "max-1point-4bit"),
        ("~2.5 bit", "avg-2.5bit"),
        ("W4 A8, α 0.5, λ 2", "w4-a8-alpha-0.5-lambda-2"),
        ("../Ümläute & Co. (final)", "umlaute-co-final"),
        ("漢字", "run"),
        ("", "run"),
    ],
)
def test_slugs(name: str, expected: str) -> None:
    assert slug(name) == expected


@given(st.text() | recipes.map(short_name))
def test_a_slug_is_safe_in_a_file_name_and_its_own_slug(name: str) -> None:
    text = slug(name)
    assert re.fullmatch(r"[a-z0-9]+(?:[.-][a-z0-9]+)*", text) and len(text) <= 60
    assert slug(text) == text
