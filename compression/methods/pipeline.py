"""Where the steps meet: apply a recipe to a model, measure it, give back the run."""

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

from compression.catalogue.cards import Card, card, student_of
from compression.catalogue.channel_support import require_channels
from compression.errors import InvalidInput
from compression.methods import step_cache
from compression.methods.calibration.paired_forward import same_structure
from compression.methods.calibration.step_context import (
    StepContext,
    StepResult,
    first_setting_needing_images,
    without_images,
)
from compression.methods.distill.step import distill_step
from compression.methods.prune.channels import try_channels
from compression.methods.prune.step import prune
from compression.methods.quantize.step import quantize
from compression.methods.step_cache import CompressedModel
from compression.models.data import SEARCH, Dataset, load_dataset
from compression.models.load import original_of
from compression.models.parametrize import materialize
from compression.paths import cache_dir
from compression.recipe.recipe import Recipe
from compression.recipe.steps import (
    Distill,
    Prune,
    Quantize,
    Step,
)
from compression.runs.progress import Curve, Progress, Report, stage

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` takes CUDA when there is one.

    Raises:
        InvalidInput: an unknown device, or CUDA where there is none.
    """
    if device not in DEVICES:
        raise InvalidInput("device", device, ", ".join(DEVICES))
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device", device, "auto or cpu, for PyTorch finds no CUDA GPU here")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


# Each changes `model` in place or gives another: what is in `Applied`, or the first parts of it.
STEPS: dict[str, tuple[str, Callable[[nn.Module, Any, StepContext], tuple[Any, ...]]]] = {
    "prune": ("Pruning", prune),
    "quantize": ("Quantizing", quantize),
    "distill": ("Distilling", distill_step),
}


def compress(
    model_id: str, recipe: Recipe, *, device: str = "auto", report: Report | None = None
) -> CompressedModel:
    """Apply a recipe to a copy of a model; a prefix computed before is not computed again.

    Raises:
        CompressionError: the model or its data cannot be had, or a step cannot do what was asked.
    """
    device, found = resolve_device(device), card(model_id)
    _refuse(found, recipe)
    original = original_of(model_id)
    data = load_dataset(found.dataset) if found.dataset else None
    if any(isinstance(s, Prune) and s.pattern == "channels" for s in recipe.steps):
        own = student_of(found, recipe)
        try_channels(original_of(own.id), own.architecture, own.input_shape)
    done, known = next(
        (n, kept)
        for n in range(len(recipe.steps), -1, -1)
        if (kept := _known(found, _first(recipe, n), device))
    )
    for curve in known.curves:
        _tell_again(report, curve)
    for at in range(done, len(recipe.steps)):
        known = _next(found, _first(recipe, at + 1), known, data, device, report)
    original.to("cpu")
    return replace(known, model=known.model.to("cpu").eval())


def _next(
    found: Card,
    recipe: Recipe,
    known: CompressedModel,
    data: Dataset | None,
    device: str,
    report: Report | None,
) -> CompressedModel:
    """Apply the last step of a recipe to what the others made, and keep what comes of it."""
    at = len(recipe.steps) - 1
    step, before = recipe.steps[at], _first(recipe, at)
    title, apply = STEPS[step.step]
    tell = stage(report, title)
    started = time.perf_counter()
    # one layout, wherever the prefix came from: sums in another order would round otherwise
    model = known.model.to(device).to(memory_format=torch.channels_last)
    own = student_of(found, before)
    key = _key(found, recipe, device)
    context = StepContext(
        card=own,
        reference=_reference(model, original_of(own.id).to(device), before.steps),
        original=original_of(found.id).to(device),
        data=data,
        seed=recipe.seed,
        device=device,
        report=tell,
        watch=report,
        at=at,
        checkpoint=checkpoint_path(key),
    )
    made = StepResult(*apply(model, step, context))
    curves = known.curves if made.curve is None else (*known.curves, made.curve)
    stopped = known.stopped or made.stopped
    result = CompressedModel(made.model, (*known.notes, *made.notes), curves, stopped)
    if not stopped:  # what was cut short is not what the recipe makes
        step_cache.keep(key, result, time.perf_counter() - started)
    return result


def _tell_again(report: Report | None, curve: Curve) -> None:
    """Show how a step was taught before, although its result was at hand."""
    if report:
        report(Progress(stage="Distilling", fraction=1.0, curve=curve))


def checkpoint_path(key: str) -> Path:
    """Where a training whose result will be kept under `key` keeps its checkpoint."""
    return cache_dir() / "checkpoints" / f"{key}.pt"


def _refuse(found: Card, recipe: Recipe) -> None:
    """Refuse what a model cannot have before it is even loaded.

    Raises:
        InvalidInput: a setting needs images and there are none, no channels can be removed, or a
            step needs the statistics of batch norms that a step before it has taken away.
    """
    student_of(found, recipe)
    by_rate = [i for i, s in enumerate(recipe.steps) if isinstance(s, Quantize) and s.by_rate]
    for step in recipe.steps[by_rate[0] + 1 :] if by_rate else ():
        if not (isinstance(step, Distill) and step.batchnorm == "frozen"):
            allowed = "after a quantize step with rate or keep_accuracy only distill, with "
            allowed += "batchnorm frozen: batch norms have no statistics any more"
            raise InvalidInput("steps", step.step, allowed)
    for step in recipe.steps:
        if found.dataset is None and (asked := first_setting_needing_images(step)):
            raise without_images(found, *asked)
        if isinstance(step, Prune) and step.pattern == "channels":
            require_channels(student_of(found, recipe).architecture)


def _reference(model: nn.Module, original: nn.Module, before: tuple[Step, ...]) -> nn.Module:
    """What a step's outputs are held against: the original, or the model as it is now if it has
    been taught, narrowed or equalized, so that its layers no longer mean the same."""
    own = any(
        isinstance(s, Distill) or getattr(s, "equalization", "none") != "none" for s in before
    )
    if own or not same_structure(model, original):
        return materialize(model)
    return original


def _first(recipe: Recipe, steps: int) -> Recipe:
    return recipe.model_copy(update={"steps": recipe.steps[:steps]})


def _known(found: Card, prefix: Recipe, device: str) -> CompressedModel | None:
    if not prefix.steps:
        return CompressedModel(copy.deepcopy(original_of(found.id)), ())
    blank = original_of(student_of(found, prefix).id)
    return step_cache.find(_key(found, prefix, device), blank)


def _key(found: Card, prefix: Recipe, device: str) -> str:
    made_of = f"{found.id}|{found.date}|{prefix.key}|{device}|{torch.__version__}"
    if prefix.searches:
        made_of += f"|{SEARCH}"  # earlier versions chose by all validation images
    return hashlib.sha256(made_of.encode()).hexdigest()[:24]
