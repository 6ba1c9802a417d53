"""Apply a recipe to a model, step by step; a prefix computed before is not computed again."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compression.data.splits import SEARCH, Dataset
from compression.methods import step_cache
from compression.methods.calibration.paired_forward import same_structure
from compression.methods.calibration.step_context import StepContext, StepResult
from compression.methods.distill.step import distill_step
from compression.methods.prune.channels import try_channels
from compression.methods.prune.step import prune
from compression.methods.quantize.step import quantize
from compression.methods.step_cache import CompressedModel
from compression.models.parametrize import materialize
from compression.models.target import Target, target_of
from compression.paths import cache_dir
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Step
from compression.runs.durations.stages import LOADING, STEP_STAGES
from compression.runs.progress import Curve, Progress, Report, stage

# Each changes `model` in place or gives another: what is in `StepResult`, or the first parts of it.
STEPS: dict[str, Callable[[nn.Module, Any, StepContext], tuple[Any, ...]]] = {
    "prune": prune,
    "quantize": quantize,
    "distill": distill_step,
}


def compress(
    model: str | Target | nn.Module,
    recipe: Recipe,
    data: Dataset | None = None,
    *,
    device: str | None = None,
    report: Report | None = None,
) -> CompressedModel:
    """Apply a recipe to a copy of a model; a prefix computed before is not computed again.

    Args:
        model: an id listed by `compression models`, a module of your own, or a `Target`.
        recipe: the steps, in order, and the seed.
        data: labelled inputs for a module of your own, as `dataset_of` makes them.
        device: `auto`, `cpu` or `cuda`. If not given, the target's own, for an id `auto`.
        report: called often with how far it is; what it raises ends the work.

    Returns:
        The compressed model on the CPU in evaluation mode, with masks and grids as
        parametrizations, and notes on how it was made.

    Raises:
        CompressionError: the model or its data cannot be had, or a step cannot do what was asked.

    Example:
        >>> from compression import Prune, Quantize, Recipe, compress
        >>> recipe = Recipe(steps=(Prune(sparsity=0.8), Quantize(bits=4)))
        >>> model = compress("fashion-mnist/squeezenet1_1", recipe).model
    """
    target = target_of(model, recipe, data, device=device)
    if any(isinstance(s, Prune) and s.pattern == "channels" for s in recipe.steps):
        base = target.base
        try_channels(base.model, base.architecture or base.name, base.input_shape)
    done, known = next(
        (n, cached)
        for n in range(len(recipe.steps), -1, -1)
        if (cached := _known(target, _first(recipe, n)))
    )
    for curve in known.curves:
        _report_curve(report, curve)
    for at in range(done, len(recipe.steps)):
        known = _next(target, _first(recipe, at + 1), known, report)
    return replace(known, model=known.model.to("cpu").eval())


def _next(
    target: Target, recipe: Recipe, known: CompressedModel, report: Report | None
) -> CompressedModel:
    """Apply the last step of a recipe to what the others made, and keep what comes of it."""
    at = len(recipe.steps) - 1
    step, before = recipe.steps[at], recipe.steps[:at]
    tell = stage(report, STEP_STAGES[step.step], at)
    started = time.perf_counter()
    # one layout, wherever the prefix came from: sums in another order would round otherwise
    model = known.model.to(target.device).to(memory_format=torch.channels_last)
    base = target.base if before else target
    key = _key(target, recipe)
    context = StepContext(
        target=base,
        reference=_reference(model, base.on_device, before),
        original=target.on_device,
        seed=recipe.seed,
        report=tell,
        watch=report,
        at=at,
        checkpoint=checkpoint_path(key),
    )
    made = StepResult(*STEPS[step.step](model, step, context))
    curves = known.curves if made.curve is None else (*known.curves, made.curve)
    stopped = known.stopped or made.stopped
    result = CompressedModel(made.model, (*known.notes, *made.notes), curves, stopped)
    if not stopped:  # what was cut short is not what the recipe makes
        step_cache.put(key, result, time.perf_counter() - started)
    return result


def _report_curve(report: Report | None, curve: Curve) -> None:
    """Show how a step was trained before, although its result was at hand."""
    if report:
        report(Progress(stage=LOADING, fraction=1.0, curve=curve))


def checkpoint_path(key: str) -> Path:
    """Where a training whose result will be kept under `key` keeps its checkpoint."""
    return cache_dir() / "checkpoints" / f"{key}.pt"


def _reference(model: nn.Module, original: nn.Module, before: tuple[Step, ...]) -> nn.Module:
    """What a step's outputs are compared with: the original, or the model as it is now if it has
    been trained, narrowed or equalized, so that its layers no longer mean the same."""
    changed = any(
        isinstance(s, Distill) or getattr(s, "equalization", "none") != "none" for s in before
    )
    if changed or not same_structure(model, original):
        return materialize(model)
    return original


def _first(recipe: Recipe, steps: int) -> Recipe:
    return recipe.model_copy(update={"steps": recipe.steps[:steps]})


def _known(target: Target, prefix: Recipe) -> CompressedModel | None:
    if not prefix.steps:
        return CompressedModel(copy.deepcopy(target.model), ())
    return step_cache.get(_key(target, prefix), target.base.model)


def _key(target: Target, prefix: Recipe) -> str:
    made_of = f"{target.identity}|{prefix.key}|{target.device}|{torch.__version__}"
    if prefix.searches:
        made_of += f"|{SEARCH}"  # earlier versions chose by all validation images
    return hashlib.sha256(made_of.encode()).hexdigest()[:24]
