"""A quantized SqueezeNet, its packed file and what is exported of it, made once."""

from __future__ import annotations

import hashlib
from functools import cache

from compression.catalogue.cards import card
from compression.data.datasets import load_dataset
from compression.export.handlers import open_data
from compression.export.open_file import Opened
from compression.export.packed.file import pack
from compression.jobs.export import Ready, make
from compression.jobs.packed_source import Source
from compression.measure.accuracy import Predictions, predict
from compression.methods.pipeline import compress
from compression.models.target import target_of
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Prune, Quantize
from compression.runs.results import Run, State
from compression.runs.store import new_run

MODEL = "fashion-mnist/squeezenet1_1"


RECIPE = Recipe(steps=(Prune(sparsity=0.3), Quantize(bits=4, activation_bits=8)))


@cache
def packed() -> bytes:
    """The packed file of `RECIPE`, as measuring packs it."""
    model_card, model = card(MODEL), compress(MODEL, RECIPE, device="cpu").model
    about = {"model": MODEL, "recipe": RECIPE.brief}
    return pack(
        model, architecture=model_card.architecture, classes=model_card.classes, details=about
    )


def finished(**changed: object) -> Run:
    run = new_run(MODEL, "fashion-mnist", RECIPE, State.DONE)
    sha = hashlib.sha256(packed()).hexdigest()
    return run.model_copy(update={"environment": {"artifact_sha256": sha}, **changed})


@cache
def source() -> Source:
    return Source(finished(), target_of(MODEL, RECIPE, device="cpu"), packed())


@cache
def ready(form: str) -> Ready:
    return make(source(), form)


@cache
def opened(form: str) -> Opened:
    return open_data(ready(form).data, (3, 32, 32), trusted=True)


@cache
def measured() -> Predictions:
    return predict(source().model(), load_dataset("fashion-mnist").validation)
