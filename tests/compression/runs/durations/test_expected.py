"""How long a run takes, by its stages, from what earlier runs took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize, Step
from compression.runs.durations.expected import (
    KEPT_FROM_SECONDS,
    NOMINAL_SECONDS,
    REPEATED,
    estimate,
    expected_stages,
    measuring_again,
    steps_at_hand,
)
from compression.runs.durations.stages import ACCURACY, LATENCY, LOADING, STEP_STAGES, StageTime
from compression.runs.durations.step_times import ATTEMPTS, NEWEST, TRAINING, seconds_of_steps
from compression.runs.results import Latency, Run, State
from tests.compression.example_runs import finished

MEASURED = {LOADING: 0.5, ACCURACY: 1.0, LATENCY: 4.5}
MEASURING = sum(MEASURED.values())


def recipe_of(*steps: Step, seed: int = 0) -> Recipe:
    return Recipe(steps=steps, seed=seed)


def ran(recipe: Recipe, *seconds: float | None, **more: object) -> Run:
    """A run whose steps took so long; None for one whose result was at hand."""
    steps = tuple(
        StageTime(
            stage=STEP_STAGES[step.step],
            at=at,
            seconds=spent,
            training_steps=_steps(step) if isinstance(step, Distill) else None,
        )
        for at, (step, spent) in enumerate(zip(recipe.steps, seconds, strict=True))
        if spent is not None
    )
    measured = tuple(StageTime(stage=name, seconds=s) for name, s in MEASURED.items())
    return finished(recipe).model_copy(update={"stages": (*steps, *measured), **more})


def _steps(step: Distill) -> int:
    return step.epochs * (step.images or 55_000) // step.batch_size


def old(recipe: Recipe, seconds: float) -> Run:
    """A run from before the times of stages were kept."""
    return finished(recipe).model_copy(update={"seconds": seconds})


def test_the_newest_runs_that_do_the_same_work_count() -> None:
    spent = [90.0, 90.0, 90.0, *(2.0**n for n in range(NEWEST))]
    runs = [ran(recipe_of(Quantize(bits=8), seed=i), s) for i, s in enumerate(spent)]
    middle = 2.0 ** (NEWEST // 2)  # as far from the least as from the most, as a factor
    assert estimate(recipe_of(Quantize(bits=2)), runs, None) == pytest.approx(middle + MEASURING)


def test_stages_add_up_whatever_run_they_are_from() -> None:
    runs = [ran(recipe_of(Prune(sparsity=0.5)), 1.5), ran(recipe_of(Quantize(bits=8)), 1.0)]
    recipe = recipe_of(Prune(sparsity=0.9), Quantize(bits=4))
    assert estimate(recipe, runs, None) == pytest.approx(1.5 + 1.0 + MEASURING)
    names = [stage.key for stage in expected_stages(recipe, runs)]
    assert names[:3] == [(LOADING, None), ("Pruning", 0), ("Quantizing", 1)]


def test_other_work_takes_other_time() -> None:
    runs = [ran(recipe_of(Quantize(bits=8)), 1.0), ran(recipe_of(Prune(sparsity=0.5)), 1.0)]
    for other in (
        Quantize(bits=8, rounding="gptq"),
        Quantize(keep_accuracy=0.99),
        Prune(sparsity=0.5, score="obs"),
        Prune(max_drop=1.0, score="obs"),
        Distill(),
    ):
        assert estimate(recipe_of(other), runs, None) is None


def test_a_search_takes_as_long_as_one_with_another_goal() -> None:
    runs = [ran(recipe_of(Prune(max_drop=0.5)), 20.0), ran(recipe_of(Prune(sparsity=0.5)), 1.0)]
    assert estimate(recipe_of(Prune(max_drop=2.0)), runs, 3.0) == pytest.approx(20 + MEASURING)


@pytest.mark.parametrize(
    ("once", "search", "attempts"),
    [
        (Prune(sparsity=0.5), Prune(max_drop=1.0), ATTEMPTS),
        (Quantize(bits=4, rounding="gptq"), Quantize(keep_accuracy=0.99), ATTEMPTS),
        # weights are scored by images once, for all attempts
        (Prune(sparsity=0.5, score="obs"), Prune(max_drop=1.0, score="obs"), ATTEMPTS / 2),
    ],
)
def test_the_first_search_is_so_many_attempts(once: Step, search: Step, attempts: float) -> None:
    known = estimate(recipe_of(search), [ran(recipe_of(once), 2.0)], None)
    assert known == pytest.approx(2.0 * attempts + MEASURING, rel=0.15)


def test_the_first_training_goes_by_how_long_predicting_takes() -> None:
    runs = [ran(recipe_of(Quantize(bits=8)), 1.0)]
    training = Distill(images=10_000, epochs=2)  # of as many images as 4 times the 5,000
    expected = TRAINING * 4 * MEASURED[ACCURACY] + MEASURING
    assert estimate(recipe_of(training), runs, None) == pytest.approx(expected)
    student = training.model_copy(update={"student": "fashion-mnist/resnet18"})
    assert estimate(recipe_of(student), runs, None) is None


def test_what_hardly_matters_is_overlooked_where_nothing_is_closer() -> None:
    plain, tensor = Quantize(bits=4), Quantize(bits=4, granularity="tensor")
    runs = [ran(recipe_of(tensor), 1.0)]
    assert estimate(recipe_of(plain), runs, None) == pytest.approx(1.0 + MEASURING)
    runs.insert(0, ran(recipe_of(Quantize(bits=3)), 1.5))
    assert estimate(recipe_of(plain), runs, None) == pytest.approx(1.5 + MEASURING)


def test_a_result_that_was_kept_is_not_made_again() -> None:
    prune = Prune(max_drop=1.0)
    runs = [ran(recipe_of(prune, Quantize(bits=4)), 20.0, 1.0)]
    assert steps_at_hand(recipe_of(prune, Quantize(bits=3)), runs) == 1
    assert estimate(recipe_of(prune, Quantize(bits=3)), runs, None) == pytest.approx(
        1.0 + MEASURING
    )
    assert steps_at_hand(recipe_of(prune, Quantize(bits=3), seed=1), runs) == 0
    short = [ran(recipe_of(prune, Quantize(bits=4)), KEPT_FROM_SECONDS / 2, 1.0)]
    assert steps_at_hand(recipe_of(prune), short) == 0


def test_what_was_at_hand_says_nothing_of_how_long_it_takes() -> None:
    runs = [ran(recipe_of(Quantize(bits=4), seed=1), 8.0), ran(recipe_of(Quantize(bits=4)), None)]
    assert estimate(recipe_of(Quantize(bits=4), seed=2), runs, None) == pytest.approx(
        8.0 + MEASURING
    )


@pytest.mark.parametrize(
    ("epochs", "images", "seconds"),
    [(2, 1280, 4.0), (1, 2560, 4.0), (10, 1280, 20.0), (1, None, None)],
)
def test_training_is_in_proportion_to_its_steps(
    epochs: int, images: int | None, seconds: float | None
) -> None:
    runs = [ran(recipe_of(Distill(epochs=2, images=1280)), 4.0)]
    wanted = recipe_of(Distill(epochs=epochs, images=images), seed=1)
    expected = None if seconds is None else pytest.approx(seconds + MEASURING)
    assert estimate(wanted, runs, 1.0) == expected


def test_all_images_are_as_many_as_they_were() -> None:
    runs = [ran(recipe_of(Distill(epochs=1)), 50.0)]
    assert estimate(recipe_of(Distill(epochs=3)), runs, None) == pytest.approx(150 + MEASURING)


def test_two_lengths_tell_what_a_training_takes_besides_its_steps() -> None:
    taken = [(10.0, 3.0), (100.0, 12.0)]
    assert seconds_of_steps(200, taken) == pytest.approx(22)
    assert seconds_of_steps(5, taken) == pytest.approx(2.5)
    assert seconds_of_steps(30, taken[1:]) == pytest.approx(3.6)


@given(
    st.lists(st.tuples(st.integers(1, 10_000), st.floats(0.01, 1e4)), min_size=1, max_size=6),
    st.integers(1, 100_000),
)
def test_longer_trainings_take_longer_but_never_more_than_in_proportion(
    taken: list[tuple[float, float]], steps: int
) -> None:
    seconds = seconds_of_steps(steps, taken)
    bounds = [s * ratio for n, s in taken for ratio in (1, steps / n)]
    assert min(bounds) * (1 - 1e-9) <= seconds <= max(bounds) * (1 + 1e-9)


def test_a_latency_that_was_measured_three_times_counts_as_between_one_and_three() -> None:
    recipe = recipe_of(Quantize(bits=4))
    quiet = ran(recipe, 1.0)
    assert quiet.compressed is not None
    latency = Latency(
        backend="b", threads=1, batch=1, p50_ms=1, p90_ms=1, p99_ms=1, on_busy_machine=True
    )
    compressed = quiet.compressed.model_copy(update={"latency": latency})
    busy = quiet.model_copy(update={"compressed": compressed})
    spared = MEASURED[LATENCY] * (1 - 1 / REPEATED)
    assert estimate(recipe, [busy], None) == pytest.approx(1 + MEASURING - spared)
    assert estimate(recipe, [quiet], None) == pytest.approx(1 + MEASURING)


def test_the_first_run_goes_by_its_preset_unless_it_trains() -> None:
    measuring = sum(NOMINAL_SECONDS.values()) - sum(
        NOMINAL_SECONDS[n] for n in STEP_STAGES.values()
    )
    both = recipe_of(Prune(sparsity=0.5), Quantize(bits=4))
    assert estimate(both, [], 6.0) == 6.0 + measuring
    assert estimate(recipe_of(Quantize(bits=4)), [], 6.0) == 3.0 + measuring
    assert estimate(both, [], None) is None
    assert estimate(recipe_of(Prune(max_drop=1.0)), [], 6.0) == ATTEMPTS * 3.0 + measuring
    assert estimate(recipe_of(Quantize(bits=4), Distill()), [], 6.0) is None


def test_measuring_again_goes_as_it_went() -> None:
    run = ran(recipe_of(Quantize(bits=4)), 9.0)
    again = [(stage.key.name, stage.seconds) for stage in measuring_again(run, (LATENCY,))]
    assert again == [(LOADING, 0.5), (LATENCY, 4.5)]


def test_runs_from_before_stages_were_timed_still_tell() -> None:
    made = recipe_of(Quantize(bits=4), Distill(epochs=2, images=1000))
    runs = [old(made, s) for s in (10, 20, 40)]
    assert estimate(recipe_of(Quantize(bits=2), made.steps[1]), runs, None) == pytest.approx(20)
    assert estimate(recipe_of(Quantize(bits=4), Distill(epochs=3, images=1000)), runs, None) is None


@pytest.mark.parametrize("more", [{"state": State.FAILED}, {"stopped_early": True}])
def test_what_did_not_come_to_its_end_tells_nothing(more: dict[str, object]) -> None:
    runs = [ran(recipe_of(Quantize(bits=4)), 8.0, **more)]
    assert estimate(recipe_of(Quantize(bits=4)), runs, None) is None
