"""What a step of a recipe takes, from the times of steps like it in earlier runs of the model."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from compression.recipe.calibration_need import needs_images
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize, Step
from compression.runs.durations.stages import ACCURACY, StageTime
from compression.runs.results import Run

NEWEST = 3
# What hardly took time counts as if it had taken this fraction of the longest.
_MOST_APART = 100
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
# Amounts that a search tries, which is by bisection, and the share of a step that scores weights by
# images, which is done once for all of them.
ATTEMPTS, _SCORING = 11, 0.5
# An image takes so many times as long to train on as to predict.
TRAINING = 7
Work = dict[str, object]


def step_seconds(
    recipe: Recipe, at: int, runs: Sequence[Run], preset_seconds: float | None = None
) -> float | None:
    """Seconds that a step takes; None where nothing tells.

    By the newest that did the same work, or else most nearly the same. Where there is none, a
    search is so many attempts, a training so many evaluations, and all else what the recipe's
    preset was measured to take.

    Args:
        recipe: the step's.
        at: the step's place in it.
        runs: finished runs of the same model with the times of their stages, oldest first.
        preset_seconds: what pruning and quantizing take together with the recipe's preset; None if
            that was not measured.
    """
    step = recipe.steps[at]
    for likeness in (_work, _driving_work):
        seconds = _by_likeness(recipe, at, runs, likeness)
        if seconds is not None:
            return seconds
    if isinstance(step, Distill):
        return _by_evaluation(step, runs)
    if step.searches:
        return _by_attempts(recipe, at, runs, preset_seconds)
    return None if preset_seconds is None else preset_seconds / 2


def _by_likeness(
    recipe: Recipe, at: int, runs: Sequence[Run], likeness: Callable[[Recipe, int], Work]
) -> float | None:
    step, wanted = recipe.steps[at], likeness(recipe, at)
    alike = [
        (run.recipe.steps[time.at], time)
        for run in runs
        for time in run.stages
        if time.at is not None and likeness(run.recipe, time.at) == wanted
    ]
    if isinstance(step, Distill):
        return _training_seconds(step, [(s, time) for s, time in alike if isinstance(s, Distill)])
    return usual([time.seconds for _, time in alike])


def _by_attempts(
    recipe: Recipe, at: int, runs: Sequence[Run], preset_seconds: float | None
) -> float | None:
    """What a search takes, by what a step takes that does once what each of its attempts does."""
    step = recipe.steps[at]
    once: Step
    if isinstance(step, Prune):
        once = step.model_copy(update={"max_drop": None, "sparsity": 0.5})
    else:
        # rate-distortion quantization rounds as GPTQ does
        once, preset_seconds = Quantize(rounding="gptq", repair=("batchnorm", "bias")), None
    steps = (*recipe.steps[:at], once, *recipe.steps[at + 1 :])
    seconds = step_seconds(recipe.model_copy(update={"steps": steps}), at, runs, preset_seconds)
    if seconds is None:
        return None
    first = _SCORING if needs_images("score", getattr(step, "score", None)) else 0.0
    return seconds * (first + ATTEMPTS * (1 - first))


def _by_evaluation(step: Distill, runs: Sequence[Run]) -> float | None:
    """What training the model itself takes, by how long it takes to predict images."""
    if step.images is None or step.student is not None:
        return None
    each = [
        time.seconds / run.compressed.top1.n
        for run in runs
        for time in run.stages
        if time.stage == ACCURACY and run.compressed is not None and run.compressed.top1
    ]
    predicting = usual(each)
    return None if predicting is None else TRAINING * predicting * step.epochs * step.images


def _training_seconds(step: Distill, earlier: Sequence[tuple[Distill, StageTime]]) -> float | None:
    """What a training takes, by those like it but for their lengths, oldest first."""
    same = [t.seconds for s, t in earlier if (s.images, s.epochs) == (step.images, step.epochs)]
    if same:
        return usual(same)
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


def usual(seconds: Sequence[float]) -> float | None:
    """The geometric mean of the newest, which come last: it is the least factor away from all."""
    newest = seconds[-NEWEST:]
    if not any(newest):
        return 0.0 if newest else None
    least = max(newest) / _MOST_APART
    return statistics.geometric_mean([max(s, least) for s in newest])


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


def whole_work(recipe: Recipe) -> list[tuple[Work, object, object]]:
    """What decides how long all steps take, with the lengths of trainings."""
    return [
        (_work(recipe, at), getattr(step, "epochs", None), getattr(step, "images", None))
        for at, step in enumerate(recipe.steps)
    ]


def _driving_work(recipe: Recipe, at: int) -> Work:
    return {name: value for name, value in _work(recipe, at).items() if name in _DRIVERS}
