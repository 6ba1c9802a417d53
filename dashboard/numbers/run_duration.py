"""How long a run will take, from what runs like it took before."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill
from compression.runs.results import Run, State

NEWEST = 5
# What a run takes besides its method: loading, packing, accuracy, latency in every backend.
_MEASURING = 5.0
# Settings that change how much a step does or how well, and hardly how long it takes.
_AMOUNTS = {"sparsity", "threshold", "bits", "temperature", "alpha", "learning_rate"}


def estimate(recipe: Recipe, runs: Sequence[Run], preset_seconds: float | None) -> float | None:
    """Seconds that a run of this recipe will take.

    The median of the newest runs that do the same kind of work on this model; else, for a recipe
    that neither trains nor searches, what its preset was measured to take.

    Args:
        recipe: what would be run.
        runs: earlier runs of the same model, oldest first.
        preset_seconds: what the method takes, as it was measured; None if it was not.

    Returns:
        Seconds, or None where nothing tells.
    """
    done = [
        (r.recipe, r.seconds)
        for r in runs
        if r.state is State.DONE and r.seconds is not None and not r.stopped_early
    ]
    alike = [seconds for earlier, seconds in done if _work(earlier) == _work(recipe)]
    if alike:
        return statistics.median(alike[-NEWEST:])
    if recipe.trains:
        return _by_images(recipe, done)
    if preset_seconds is None or recipe.searches:
        return None
    return preset_seconds + _MEASURING


def _work(recipe: Recipe) -> tuple[tuple[tuple[str, str], ...], ...]:
    """What decides how long a recipe takes."""
    return tuple(
        tuple((name, str(value)) for name, value in step if name not in _AMOUNTS)
        for step in recipe.steps
    )


def _by_images(recipe: Recipe, done: Sequence[tuple[Recipe, float]]) -> float | None:
    """In proportion to the images that are trained on, by the newest run that trained."""
    for earlier, seconds in reversed(done):
        if earlier.trains and _trainings(earlier) == _trainings(recipe):
            return seconds * _images(recipe) / _images(earlier)
    return None


def _images(recipe: Recipe) -> float:
    """Images that training looks at, all epochs together; in epochs where it takes all images."""
    steps = [s for s in recipe.steps if isinstance(s, Distill)]
    return sum(s.epochs * (s.images or 0) for s in steps) or sum(s.epochs for s in steps)


def _trainings(recipe: Recipe) -> list[tuple[object, ...]]:
    """What decides how long training on an image takes, and how images are counted."""
    return [
        (s.images is None, s.student, s.augmentation, s.precision)
        for s in recipe.steps
        if isinstance(s, Distill)
    ]
