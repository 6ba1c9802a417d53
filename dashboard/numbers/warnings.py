"""A warning before Run: settings like these have wrecked the model before."""

from __future__ import annotations

from collections.abc import Sequence

from compression.recipe.recipe import Recipe
from compression.recipe.short_name import short_name
from compression.recipe.steps import Prune, Quantize
from compression.runs.results import Run, State
from dashboard.numbers import format as fmt
from dashboard.numbers.headline import smallest_within_a_point
from dashboard.numbers.trade_off import COLLAPSED

_NEAR_SPARSITY, _NEAR_BITS = 0.1, 1


def warning(recipe: Recipe, runs: Sequence[Run]) -> str | None:
    """One sentence, where a run of the model with settings close to these, and no gentler, lost
    more than ten points; and what keeps the accuracy, where that is known.

    Args:
        recipe: what Run would do.
        runs: of the same model.
    """
    lost = [
        (change, r)
        for r in runs
        if (change := _change(r)) is not None and change < COLLAPSED and _close(r.recipe, recipe)
    ]
    if not lost:
        return None
    change, run = min(lost, key=lambda pair: pair[0])
    name = short_name(run.recipe, run.dataset is not None)
    sentence = f"{name} lost {fmt.lost_points(-change)}."
    kept = smallest_within_a_point(runs)
    if kept is not None:
        better = short_name(kept.recipe, kept.dataset is not None)
        sentence += f" {better} keeps the accuracy within a point."
    return sentence


def _change(run: Run) -> float | None:
    change = run.delta.top1 if run.delta else None
    return change.value if change and run.state is State.DONE else None


def _close(measured: Recipe, asked: Recipe) -> bool:
    """Whether both do the same steps in the same way, and what is asked for is about as much as
    what was measured, or more."""
    if len(measured.steps) != len(asked.steps):
        return False
    return all(map(_close_step, measured.steps, asked.steps))


def _close_step(measured: object, asked: object) -> bool:
    if isinstance(measured, Prune) and isinstance(asked, Prune):
        both = measured.sparsity, asked.sparsity
        if None in both:
            return measured == asked
        alike = measured.model_copy(update={"sparsity": asked.sparsity}) == asked
        return alike and (asked.sparsity or 0) >= (measured.sparsity or 0) - _NEAR_SPARSITY
    if isinstance(measured, Quantize) and isinstance(asked, Quantize):
        alike = measured.model_copy(update={"bits": asked.bits}) == asked
        return alike and asked.bits <= measured.bits + _NEAR_BITS
    return measured == asked
