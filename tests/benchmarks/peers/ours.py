"""This project's engine: one recipe per cell, chosen on the validation images."""

from __future__ import annotations

from typing import Any

from compression.layers import plain
from compression.models import count_macs
from compression.pipeline import compress
from compression.recipe import Recipe
from compression.steps import Prune, Quantize
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
    "activation_clipping": "percentile",
    "activation_granularity": "channel",
    "repair": _REPAIR,
}
_CHANNELS: dict[str, Any] = {
    "pattern": "channels",
    "sparsity": 0.5,
    "update": "obs",
    "repair": _REPAIR,
}

# The sparsity of channels is only where the search for the cell's MACs begins.
RECIPES: dict[str, Recipe] = {
    "W8A8": Recipe(steps=(Quantize(bits=8, activation_bits=8, **_ROUNDED),)),
    "W6A6": Recipe(steps=(Quantize(bits=6, activation_bits=6, **_ROUNDED),)),
    "W4A8": Recipe(steps=(Quantize(bits=4, activation_bits=8, **_ROUNDED),)),
    "W4": Recipe(steps=(Quantize(bits=4, **_ROUNDED),)),
    "W3": Recipe(steps=(Quantize(bits=3, **_ROUNDED),)),
    "W2": Recipe(steps=(Quantize(bits=2, **_ROUNDED),)),
    "50": Recipe(steps=(Prune(sparsity=0.5, **_PRUNED),)),
    "70": Recipe(steps=(Prune(sparsity=0.7, **_PRUNED),)),
    "80": Recipe(steps=(Prune(sparsity=0.8, **_PRUNED),)),
    "90": Recipe(steps=(Prune(sparsity=0.9, **_PRUNED),)),
    "95": Recipe(steps=(Prune(sparsity=0.95, **_PRUNED),)),
    "98": Recipe(steps=(Prune(sparsity=0.98, **_PRUNED),)),
    "2:4": Recipe(steps=(Prune(pattern="2:4", **_PRUNED | {"scope": "global"}),)),
    "macs75": Recipe(steps=(Prune(**_CHANNELS),)),
    "macs50": Recipe(steps=(Prune(**_CHANNELS),)),
}
_HALVINGS = 7


def run(job: Job) -> Made:
    """Apply the cell's recipe."""
    recipe = RECIPES[next(name for name, cell in CELLS.items() if cell == job.cell)]
    if job.cell.macs is not None:
        recipe = _fitted(job, recipe, job.cell.macs)
    model = plain(compress(job.model_id, recipe, device="cpu").model)
    ratio = count_macs(model, INPUT_SHAPE) / count_macs(job.model, INPUT_SHAPE)
    return Made(model, {"zeros": zeros(model), "macs": ratio})


def _fitted(job: Job, recipe: Recipe, target: float) -> Recipe:
    """The recipe with the least sparsity of channels that leaves at most the target's MACs."""
    base, low, high = count_macs(job.model, INPUT_SHAPE), 0.0, 0.9
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = _with_sparsity(recipe, middle, update="none", repair=())
        model = plain(compress(job.model_id, tried, device="cpu").model)
        macs = count_macs(model, INPUT_SHAPE)
        low, high = (low, middle) if macs <= target * base else (middle, high)
    return _with_sparsity(recipe, high)


def _with_sparsity(recipe: Recipe, sparsity: float, **more: object) -> Recipe:
    first = recipe.steps[0].model_copy(update={"sparsity": sparsity, **more})
    return recipe.model_copy(update={"steps": (first, *recipe.steps[1:])})
