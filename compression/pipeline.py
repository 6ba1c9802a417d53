"""Where the steps meet: apply a recipe to a model, measure it, give back the run."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compression import prefixes
from compression.catalogue import Card, card
from compression.comparison import Report, measure, original_of, stage
from compression.data import Dataset, load_dataset
from compression.distill.loop import distill
from compression.errors import InvalidInput
from compression.layers import compressible, hold, weight_of
from compression.prefixes import Prefix
from compression.prune.patterns import below, refuse_empty, smallest_global, smallest_per_layer
from compression.prune.scores import SCORES
from compression.quantize.affine import CLIPPINGS
from compression.recipe import Recipe
from compression.run import Run, State
from compression.steps import Distill, Prune, Quantize

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


@dataclass(frozen=True)
class Context:
    """What a step may need besides the model it changes."""

    model_id: str
    original: nn.Module
    data: Dataset | None
    seed: int
    device: str
    report: Callable[[float], None]


# Steps: each changes `model` in place and says in plain words if it changed nothing.


def _prune(model: nn.Module, step: Prune, context: Context) -> str | None:
    layers = dict(compressible(model))
    scores = {name: SCORES["magnitude"](weight_of(module)) for name, module in layers.items()}
    if step.threshold is not None:
        masks = below(scores, step.threshold)
        refuse_empty(masks, "threshold", step.threshold)
    else:
        sparsity = step.sparsity or 0.0
        choose = smallest_global if step.scope == "global" else smallest_per_layer
        masks = choose(scores, sparsity)
        refuse_empty(masks, "sparsity", sparsity)
    changed = False
    for name, module in layers.items():
        changed = changed or bool((~masks[name] & (scores[name] != 0)).any())
        hold(module, masks[name], None)
    return None if changed else "Pruning changed nothing: it set no further weight to zero."


def _quantize(model: nn.Module, step: Quantize, context: Context) -> str | None:
    clip = CLIPPINGS[step.clipping]
    changed = False
    layers = list(compressible(model))
    for i, (_, module) in enumerate(layers):
        weight = weight_of(module)
        grid = clip(weight, step.bits, step.scheme == "symmetric", step.granularity == "channel")
        hold(module, None, grid)
        changed = changed or not torch.equal(weight, weight_of(module))
        context.report((i + 1) / len(layers))
    return None if changed else "Quantization changed nothing: the weights were on the grid."


def _distill(model: nn.Module, step: Distill, context: Context) -> str | None:
    if context.data is None:
        raise InvalidInput(
            "distill", context.model_id, "a model with a data set to learn from: fashion-mnist/..."
        )
    distill(
        model,
        context.original,
        context.data.train,
        temperature=step.temperature,
        alpha=step.alpha,
        epochs=step.epochs,
        learning_rate=step.learning_rate,
        seed=context.seed,
        device=context.device,
        report=context.report,
    )
    return None


STEPS: dict[str, tuple[str, Callable[[nn.Module, Any, Context], str | None]]] = {
    "prune": ("Pruning", _prune),
    "quantize": ("Quantizing", _quantize),
    "distill": ("Distilling", _distill),
}


def compress(
    model_id: str, recipe: Recipe, *, device: str = "auto", report: Report | None = None
) -> Prefix:
    """Apply a recipe to a copy of a model; a prefix computed before is not computed again.

    Raises:
        CompressionError: the model or its data cannot be had, or a step cannot do what was asked.
    """
    device, found, original = resolve_device(device), card(model_id), original_of(model_id)
    data = load_dataset(found.dataset) if found.dataset else None
    done, known = next(
        (n, kept)
        for n in range(len(recipe.steps), -1, -1)
        if (kept := _known(found, _first(recipe, n), device, original))
    )
    model, notes = known.model, known.notes
    for at in range(done, len(recipe.steps)):
        step = recipe.steps[at]
        title, apply = STEPS[step.step]
        tell = stage(report, title)
        started = time.perf_counter()
        context = Context(model_id, original, data, recipe.seed, device, tell)
        note = apply(model.to(device), step, context)
        notes = (*notes, note) if note else notes
        seconds = time.perf_counter() - started
        key = _key(found, _first(recipe, at + 1), device)
        prefixes.keep(key, Prefix(model, notes), seconds)
    original.to("cpu")
    return Prefix(model.to("cpu").eval(), notes)


def _first(recipe: Recipe, steps: int) -> Recipe:
    return recipe.model_copy(update={"steps": recipe.steps[:steps]})


def _known(found: Card, prefix: Recipe, device: str, original: nn.Module) -> Prefix | None:
    if not prefix.steps:
        return Prefix(copy.deepcopy(original), ())
    return prefixes.find(_key(found, prefix, device), original)


def _key(found: Card, prefix: Recipe, device: str) -> str:
    made_of = f"{found.id}|{found.date}|{prefix.key}|{device}|{torch.__version__}"
    return hashlib.sha256(made_of.encode()).hexdigest()[:24]


def execute(
    run: Run, *, device: str = "auto", split: str = "validation", report: Report | None = None
) -> Run:
    """Apply the run's recipe, measure on a split, and give the run back as done.

    `report` is called often and may raise `Cancelled`.

    Raises:
        CompressionError: it cannot be done; the message says why.
    """
    started = time.perf_counter()
    device, found = resolve_device(device), card(run.model)
    if run.dataset != found.dataset:
        raise InvalidInput("dataset", run.dataset, str(found.dataset))
    stage(report, "Loading")
    made = compress(run.model, run.recipe, device=device, report=report)
    figures = measure(run.model, made.model, run.recipe, device=device, split=split, report=report)
    return run.model_copy(
        update={
            "state": State.DONE,
            "baseline": figures.baseline,
            "compressed": figures.compressed,
            "delta": figures.delta,
            "environment": figures.environment,
            "seconds": time.perf_counter() - started,
            "notes": (*made.notes, *figures.notes),
        }
    )
