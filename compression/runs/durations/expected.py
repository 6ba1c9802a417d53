"""How long a run takes, stage by stage, from what earlier runs of the same model took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compression.recipe.recipe import Recipe
from compression.runs.durations.stages import (
    ACCURACY,
    INT8_GRAPH,
    LATENCY,
    LOADING,
    ORIGINAL,
    PACKING,
    STEP_STAGES,
    StageKey,
)
from compression.runs.durations.step_times import step_seconds, usual, whole_work
from compression.runs.results import Run, State

# The result of a step that took longer is kept on disk, for other recipes that begin alike.
KEPT_FROM_SECONDS = 2.0
# What stages commonly take the first time, where nothing tells more.
NOMINAL_SECONDS = {
    LOADING: 0.5,
    STEP_STAGES["prune"]: 5.0,
    STEP_STAGES["quantize"]: 5.0,
    STEP_STAGES["distill"]: 60.0,
    PACKING: 1.5,
    ORIGINAL: 0.5,
    ACCURACY: 0.5,
    LATENCY: 9.0,  # the first time: the original is exported, too
    INT8_GRAPH: 0.5,
}
# On a busy machine latency is measured three times over. Whether the next run finds it busy nobody
# knows: such a time counts as if it had been done so often, as far from once as from three times.
REPEATED = 3**0.5
_MEASURING = (PACKING, ORIGINAL, ACCURACY, LATENCY, INT8_GRAPH)


@dataclass(frozen=True)
class ExpectedStage:
    """A stage of a run, and the seconds that it will take; None where nothing tells."""

    key: StageKey
    seconds: float | None


def estimate(recipe: Recipe, runs: Sequence[Run], preset_seconds: float | None) -> float | None:
    """Seconds that a run of this recipe will take.

    The sum of its stages; where one is not known, the mean of the newest runs that do the same
    work, from before the times of stages were kept. Before the first run of a model, its steps by
    their preset and what measuring commonly takes.

    Args:
        recipe: what would be run.
        runs: earlier runs of the same model, oldest first.
        preset_seconds: what pruning and quantizing were measured to take with the recipe's preset;
            None if they were not.

    Returns:
        Seconds, or None where nothing tells.
    """
    stages = expected_stages(recipe, runs, preset_seconds)
    known = [stage.seconds for stage in stages if stage.seconds is not None]
    if len(known) == len(stages):
        return sum(known)
    alike = [
        run.seconds
        for run in _finished(runs)
        if run.seconds is not None and whole_work(run.recipe) == whole_work(recipe)
    ]
    if alike:
        return usual(alike)
    unknown = [stage.key for stage in stages if stage.seconds is None]
    if any(key.at is not None for key in unknown):
        return None
    return sum(known) + sum(NOMINAL_SECONDS[key.name] for key in unknown)


def expected_stages(
    recipe: Recipe, runs: Sequence[Run], preset_seconds: float | None = None
) -> tuple[ExpectedStage, ...]:
    """The stages of a run of this recipe, in their order, each with what it will take.

    Args and their meaning are those of `estimate`.
    """
    finished = [run for run in _finished(runs) if run.stages]
    at_hand = steps_at_hand(recipe, finished)
    steps = []
    for at, step in enumerate(recipe.steps):
        seconds = 0.0 if at < at_hand else step_seconds(recipe, at, finished, preset_seconds)
        steps.append(ExpectedStage(StageKey(STEP_STAGES[step.step], at), seconds))
    return (
        ExpectedStage(StageKey(LOADING), _usual(LOADING, recipe, finished)),
        *steps,
        *(ExpectedStage(StageKey(n), _usual(n, recipe, finished)) for n in _MEASURING),
    )


def measuring_again(run: Run, names: Sequence[str] = _MEASURING) -> tuple[ExpectedStage, ...]:
    """The stages of measuring a finished run again, as they went when it was measured first.

    Args:
        run: a run that is done.
        names: the stages that are done again, after loading.
    """
    took = {time.key: time.seconds for time in run.stages}
    keys = [StageKey(name) for name in (LOADING, *names)]
    return tuple(ExpectedStage(key, took.get(key)) for key in keys)


def steps_at_hand(recipe: Recipe, runs: Sequence[Run]) -> int:
    """How many of a recipe's first steps need not be done again: their result was kept before.

    Args:
        recipe: what would be run.
        runs: finished runs of the same model with the times of their stages.
    """
    kept = {
        _first(run.recipe, time.at + 1).key
        for run in runs
        for time in run.stages
        if time.at is not None and time.seconds >= KEPT_FROM_SECONDS
    }
    lengths = range(len(recipe.steps), 0, -1)
    return next((n for n in lengths if _first(recipe, n).key in kept), 0)


def _finished(runs: Sequence[Run]) -> Iterator[Run]:
    return (run for run in runs if run.state is State.DONE and not run.stopped_early)


def _first(recipe: Recipe, steps: int) -> Recipe:
    return recipe.model_copy(update={"steps": recipe.steps[:steps]})


def _usual(name: str, recipe: Recipe, runs: Sequence[Run]) -> float | None:
    """What a stage outside of the recipe takes; nothing in runs that did without it."""
    alike = [run for run in runs if run.recipe.quantizes is recipe.quantizes] or runs
    times = [sum(t.seconds for t in run.stages if t.stage == name) for run in alike]
    if name == LATENCY:
        times = [t / REPEATED if _was_repeated(r) else t for t, r in zip(times, alike, strict=True)]
    return usual(times)


def _was_repeated(run: Run) -> bool:
    latency = run.compressed.latency if run.compressed else None
    return latency is not None and latency.on_busy_machine
