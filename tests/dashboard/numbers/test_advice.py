"""What the page says around Run: the headline, how long it takes, what wrecked the model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compression.catalogue.cards import cards
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Prune, Quantize
from compression.runs.results import Run
from dashboard.numbers.headline import QUESTION, headline, smallest_within_a_point
from dashboard.numbers.warnings import warning
from tests.dashboard.runs import MODEL, done, recipe

RUNS = st.lists(
    st.tuples(st.integers(30, 95), st.integers(1, 60)),
    max_size=8,
).map(lambda rows: [done(recipe(bits=4), t / 100, mb * 10**6) for t, mb in rows])


@given(RUNS)
def test_the_headline_is_the_smallest_run_that_lost_at_most_a_point(runs: list[Run]) -> None:
    best = smallest_within_a_point(runs)
    sentence, interval = headline(cards()[MODEL], runs)
    within = [
        (r.delta.size_ratio or 0)
        for r in runs
        if r.delta
        and r.delta.top1
        and r.delta.top1.value >= -0.01
        and (r.delta.size_ratio or 0) > 1
    ]
    if best is None:
        assert (sentence, interval, within) == (QUESTION, "", [])
    else:
        assert best.delta is not None and best.delta.size_ratio == max(within)
        assert "times smaller and lose" in sentence and "95 % interval" in interval


def test_the_headline_says_what_was_lost() -> None:
    sentence, _ = headline(cards()[MODEL], [done(recipe(bits=4), 0.9168, 1_000_000)])
    assert sentence == "resnet18 can be 44.8 times smaller and lose 0.32 points"
    gained, _ = headline(cards()[MODEL], [done(recipe(bits=4), 0.925, 1_000_000)])
    assert gained.endswith("lose no accuracy")


def test_what_wrecked_the_model_is_said_before_it_is_run_again() -> None:
    wrecked = done(recipe(sparsity=0.9, bits=3), 0.4)
    kept = done(recipe(bits=8), 0.919, 5_000_000)
    said = warning(recipe(sparsity=0.85, bits=4), [wrecked, kept])
    assert said == "90 % · 3 bit lost 52 points. 8 bit keeps the accuracy within a point."
    assert warning(recipe(sparsity=0.95, bits=2), [wrecked]) == "90 % · 3 bit lost 52 points."
    for gentler in (recipe(sparsity=0.7, bits=3), recipe(sparsity=0.9, bits=5), recipe(bits=3)):
        assert warning(gentler, [wrecked, kept]) is None
    another_method = Recipe(steps=(Prune(sparsity=0.9), Quantize(bits=3, rounding="gptq")))
    assert warning(another_method, [wrecked]) is None
