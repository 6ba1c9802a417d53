"""This project's engine: one recipe per cell, chosen on the validation images."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from torch import nn

from compression.catalogue.cards import card
from compression.export.packed import file
from compression.methods.pipeline import compress
from compression.models.load import count_macs
from compression.models.parametrize import materialize
from compression.recipe.presets import WHOLE
from compression.recipe.recipe import Recipe, parse
from compression.recipe.steps import Prune, Quantize
from tests.benchmarks.peers.cells import CELLS, INPUT_SHAPE, Job, Made, zeros

_REPAIR = ("batchnorm", "bias")
_PRUNED: dict[str, Any] = {
    "scope": "allocated",
    "score": "obs",
    "update": "obs",
    "repair": _REPAIR,
}
_ROUNDED: dict[str, Any] = {
    "rounding": "gptq",
    "repair": _REPAIR,
}
_CHANNELS: dict[str, Any] = {
    "score": "taylor",
    "pattern": "channels",
    "sparsity": 0.5,
    "update": "obs",
    "repair": _REPAIR,
}

# How activations' ranges are chosen: whichever is best on the validation images.
_RANGES: tuple[dict[str, Any], ...] = (
    {"activation_clipping": "mse"},
    {"activation_clipping": "percentile", "activation_granularity": "channel"},
)


def _with_activations(bits: int, activation_bits: int) -> tuple[Recipe, ...]:
    steps = (Quantize(bits=bits, activation_bits=activation_bits, **_ROUNDED, **r) for r in _RANGES)
    return tuple(Recipe(steps=(step,)) for step in steps)


def _alone(step: Prune | Quantize) -> tuple[Recipe, ...]:
    return (Recipe(steps=(step,)),)


# The sparsity of channels is only where the search for the cell's MACs begins.
RECIPES: dict[str, tuple[Recipe, ...]] = {
    "W8A8": _with_activations(8, 8),
    "W6A6": _with_activations(6, 6),
    "W4A8": _with_activations(4, 8),
    **{f"W{bits}": _alone(Quantize(bits=bits, **_ROUNDED)) for bits in (4, 3, 2)},
    **{
        f"{percent}": _alone(Prune(sparsity=percent / 100, **_PRUNED))
        for percent in (50, 70, 80, 90, 95, 98)
    },
    "2:4": _alone(Prune(pattern="2:4", **_PRUNED | {"scope": "global"})),
    "macs75": _alone(Prune(**_CHANNELS)),
    "macs50": _alone(Prune(**_CHANNELS)),
    **{f"file{bits}": _alone(Quantize(bits=bits, rest="float16", **_ROUNDED)) for bits in (8, 4)},
    "smallest": (parse(Recipe, {"steps": WHOLE["smallest"].steps}),),
}
_HALVINGS = 7


def run(job: Job) -> Made:
    """Apply the cell's recipe."""
    cell = next(name for name, cell in CELLS.items() if cell == job.cell)
    recipe = next(r for r in RECIPES[cell] if r.key == job.variant)
    if job.cell.macs is not None:
        recipe = _fitted(job, recipe, job.cell.macs)
    compressed = compress(job.model_id, recipe, device="cpu").model
    model = materialize(compressed)
    if job.cell.file:
        return Made(model, {"bytes": _bytes(job, compressed, recipe)})
    ratio = count_macs(model, INPUT_SHAPE) / count_macs(job.model, INPUT_SHAPE)
    return Made(model, {"zeros": zeros(model), "macs": ratio})


def _bytes(job: Job, model: nn.Module, recipe: Recipe) -> float:
    """Size of the packed file, with everything that the command line puts into it."""
    about = card(job.model_id)
    details = {"model": job.model_id, "recipe": json.loads(recipe.to_json())}
    pack = partial(file.pack, architecture=about.architecture, classes=about.classes)
    return float(len(pack(model, details=details)))


def _fitted(job: Job, recipe: Recipe, target: float) -> Recipe:
    """The recipe with the least sparsity of channels that leaves at most the target's MACs."""
    base, low, high = count_macs(job.model, INPUT_SHAPE), 0.0, 0.9
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = _with_sparsity(recipe, middle, update="none", repair=())
        model = materialize(compress(job.model_id, tried, device="cpu").model)
        macs = count_macs(model, INPUT_SHAPE)
        low, high = (low, middle) if macs <= target * base else (middle, high)
    return _with_sparsity(recipe, high)


def _with_sparsity(recipe: Recipe, sparsity: float, **more: object) -> Recipe:
    first = recipe.steps[0].model_copy(update={"sparsity": sparsity, **more})
    return recipe.model_copy(update={"steps": (first, *recipe.steps[1:])})
