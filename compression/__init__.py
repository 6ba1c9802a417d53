"""Compress neural networks and measure what it costs.

    from compression import Prune, Quantize, Recipe, compress
    recipe = Recipe(steps=(Prune(sparsity=0.8), Quantize(bits=4)))
    model = compress("fashion-mnist/resnet18", recipe).model

`load(path)` gives back the model of a packed file.

Names are imported when first used: reading stored runs must not wait for torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# PyTorch's threads spin while they wait for each other. With anything else running on the machine
# that made evaluation on two cores five times slower than on one; after a short spin they sleep.
# The thread library reads this once, when torch is first imported, here or in a worker we start.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# On a busy machine the matrix library would use fewer threads, and sum in another order: the same
# recipe and seed could then give other bytes.
os.environ.setdefault("MKL_DYNAMIC", "FALSE")

if TYPE_CHECKING:
    from compression.artifact import load
    from compression.catalogue import card, cards
    from compression.errors import CompressionError, InvalidInput
    from compression.models import load_model
    from compression.pipeline import compress, execute
    from compression.recipe import Recipe, parse_recipe, read_recipe
    from compression.run import Run, State
    from compression.steps import Distill, Prune, Quantize
    from compression.store import Store, new_run, open_store

_HOMES = {
    "load": "artifact",
    "card": "catalogue",
    "cards": "catalogue",
    "CompressionError": "errors",
    "InvalidInput": "errors",
    "load_model": "models",
    "compress": "pipeline",
    "execute": "pipeline",
    "Distill": "steps",
    "Prune": "steps",
    "Quantize": "steps",
    "Recipe": "recipe",
    "parse_recipe": "recipe",
    "read_recipe": "recipe",
    "Run": "run",
    "State": "run",
    "Store": "store",
    "new_run": "store",
    "open_store": "store",
}

__all__ = [  # noqa: RUF022 - as in _HOMES
    "load",
    "card",
    "cards",
    "CompressionError",
    "InvalidInput",
    "load_model",
    "compress",
    "execute",
    "Distill",
    "Prune",
    "Quantize",
    "Recipe",
    "parse_recipe",
    "read_recipe",
    "Run",
    "State",
    "Store",
    "new_run",
    "open_store",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
