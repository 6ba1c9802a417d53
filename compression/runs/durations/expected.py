"""How long a run takes, stage by stage, from what earlier runs of the same model took."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill
from compression.runs.durations.stages import (
    ACCURACY,
    INT8_GRAPH,
    LATENCY,
    LOADING,
    ORIGINAL,
    PACKING,
    STEP_STAGES,
    StageKey,
    StageTime,
)
from compression.runs.results import Run, State

NEWEST = 5
# The result of a step that took longer is kept on disk, for other recipes that begin alike.
KEPT_FROM_SECONDS = 2.0
# What stages commonly take: only for how far a bar is where nothing tells more.
NOMINAL_SECONDS = {
    LOADING: 0.5,
    STEP_STAGES["prune"]: 5.0,
    STEP_STAGES["quantize"]: 5.0,
    STEP_STAGES["distill"]: 60.0,
    PACKING: 1.0,
    ORIGINAL: 0.5,
    ACCURACY: 0.5,
    LATENCY: 5.0,
    INT8_GRAPH: 0.5,
}
_MEASURING = (PACKING, ORIGINAL, ACCURACY, LATENCY, INT8_GRAPH)
# Settings that change what comes of a step, and hardly how long it takes.
_AMOUNTS = {
    *("threshold", "sparsity", "round_to", "bits", "edge_bits", "other_dtype", "margin"),
    *("temperature", "alpha", "learning_rate", "momentum", "weight_decay", "label_smoothing"),
    *("schedule", "warmup", "decay", "decay_epochs", "patience", "other_classes", "layer_weight"),
}
# Settings of which it matters only whether there is any.
_SWITCHES = {"max_drop", "average_bits", "rd_lambda", "keep_accuracy", "activation_bits", "l1"}
_LENGTHS = {"epochs", "images"}
# What decides most of how long a step takes.
_DRIVERS = {
    *("step", "max_drop", "score", "update", "rounding", "average_bits", "sensitivity"),
    *("rd_lambda", "keep_accuracy", "augmentation", "precision", "loss", "batch_size"),
    *("network", "teacher"),
}
# Lengths of trainings that differ by less do not tell what one takes besides its steps.
_APART = 2.0
Work = dict[str, object]


@dataclass(frozen=True)
class ExpectedStage:
    """A stage of a run, and the seconds that it will take; None where nothing tells."""

    key: StageKey
    seconds: float | None


def estimate(recipe: Recipe, runs: Sequence[Run], preset_seconds: float | None) -> float | None:
    """Seconds that a run of this recipe will take.

    The sum of its stages; where one is not known, the median of the newest runs that do the same
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
        if run.seconds is not None and _whole_work(run.recipe) == _whole_work(recipe)
    ]
    if alike:
        return _median(alike)
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
        seconds = 0.0 if at < at_hand else _step_seconds(recipe, at, finished)
        seconds = _by_preset(recipe, at, seconds, preset_seconds)
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
    return _median(times)


def _step_seconds(recipe: Recipe, at: int, runs: Sequence[Run]) -> float | None:
    """What a step takes by the newest that did the same work, or else most nearly the same."""
    step = recipe.steps[at]
    timed = [(run.recipe, time) for run in runs for time in run.stages if time.at is not None]
    likenesses: tuple[Callable[[Recipe, int], Work], ...] = (_work, _driving_work)
    for likeness in likenesses:
        wanted = likeness(recipe, at)
        alike = [
            (earlier.steps[time.at], time)
            for earlier, time in timed
            if time.at is not None and likeness(earlier, time.at) == wanted
        ]
        if isinstance(step, Distill):
            trained = [(s, time) for s, time in alike if isinstance(s, Distill)]
            seconds = _training_seconds(step, trained)
        else:
            seconds = _median([time.seconds for _, time in alike])
        if seconds is not None:
            return seconds
    return None


def _training_seconds(step: Distill, earlier: Sequence[tuple[Distill, StageTime]]) -> float | None:
    """What a training takes, by those like it but for their lengths, oldest first."""
    same = [t.seconds for s, t in earlier if (s.images, s.epochs) == (step.images, step.epochs)]
    if same:
        return _median(same)
    steps = _optimizer_steps(step, earlier)
    taken = [(t.training_steps, t.seconds) for _, t in earlier if t.training_steps]
    return seconds_of_steps(steps, taken) if steps and taken else None


def seconds_of_steps(steps: float, taken: Sequence[tuple[float, float]]) -> float:
    """What so many optimizer steps take, by the trainings whose lengths are nearest.

    A training takes some time besides its steps. How much, two of different lengths tell; from a
    single one, what it took is in proportion.

    Args:
        steps: above 0.
        taken: steps, above 0, and seconds of some trainings, oldest first; at least one.
    """
    nearest = min(reversed(taken), key=lambda other: _apart(other[0], steps))
    others = [other for other in taken if _apart(other[0], nearest[0]) >= _APART]
    each = nearest[1] / nearest[0]
    if others:
        other = min(reversed(others), key=lambda other: _apart(other[0], steps))
        slope = (nearest[1] - other[1]) / (nearest[0] - other[0])
        each = min(max(slope, 0.0), each)
    return nearest[1] + each * (steps - nearest[0])


def _apart(a: float, b: float) -> float:
    return max(a / b, b / a)


def _optimizer_steps(step: Distill, earlier: Sequence[tuple[Distill, StageTime]]) -> float | None:
    """Optimizer steps of a training; where it takes all images, by others that took them, too."""
    if step.images is not None:
        return step.epochs * step.images / step.batch_size
    an_epoch = [
        time.training_steps * s.batch_size / s.epochs
        for s, time in earlier
        if s.images is None and time.training_steps
    ]
    # one that was stopped, or went on from a checkpoint, took fewer
    return step.epochs * max(an_epoch) / step.batch_size if an_epoch else None


def _median(seconds: Sequence[float]) -> float | None:
    """Of the newest, which come last."""
    return statistics.median(seconds[-NEWEST:]) if seconds else None


def _work(recipe: Recipe, at: int) -> Work:
    """What decides how long a step takes, but for the length of a training."""
    step = recipe.steps[at]
    values: Work = {
        name: value not in (None, 0) if name in _SWITCHES else value
        for name, value in step
        if name not in _AMOUNTS | _LENGTHS
    }
    values["network"] = getattr(recipe.steps[0], "student", None)
    if isinstance(step, Distill):
        values["teacher"] = step.needs_teacher
    return values


def _whole_work(recipe: Recipe) -> list[tuple[Work, object, object]]:
    """What decides how long all steps take, with the lengths of trainings."""
    return [
        (_work(recipe, at), getattr(step, "epochs", None), getattr(step, "images", None))
        for at, step in enumerate(recipe.steps)
    ]


def _driving_work(recipe: Recipe, at: int) -> Work:
    return {name: value for name, value in _work(recipe, at).items() if name in _DRIVERS}


def _by_preset(
    recipe: Recipe, at: int, seconds: float | None, preset_seconds: float | None
) -> float | None:
    """What a step takes, if nothing else tells, by what its preset takes to prune and quantize."""
    step = recipe.steps[at]
    if seconds is not None or preset_seconds is None or step.searches:
        return seconds
    return preset_seconds / 2
