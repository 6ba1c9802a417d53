"""Do a run: compress, measure, give back what is stored."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import nn

from compression.catalogue.cards import card
from compression.errors import InvalidInput
from compression.measure.accuracy import predict
from compression.measure.comparison import Figures, measure
from compression.methods.pipeline import compress, resolve_device
from compression.models.data import REPORT, load_dataset
from compression.models.parametrize import materialize
from compression.runs.format import unsearched_images
from compression.runs.progress import Report, stage
from compression.runs.results import Run, State
from compression.runs.statistics import Interval, proportion


def execute(
    run: Run,
    *,
    device: str = "auto",
    split: str = "validation",
    report: Report | None = None,
    keep: Callable[[bytes], object] | None = None,
) -> Run:
    """Apply the run's recipe, measure on a split, and give the run back as done.

    A recipe that searches has looked at half of the validation images: it is measured on the other.
    `report` is called often and may raise `Cancelled`; `keep` gets the packed file.

    Raises:
        CompressionError: it cannot be done; the message says why.
    """
    started = time.perf_counter()
    device, found = resolve_device(device), card(run.model)
    if run.dataset != found.dataset:
        raise InvalidInput("dataset", run.dataset, str(found.dataset))
    if run.recipe.searches and run.dataset is not None and split == "validation":
        split = REPORT
    stage(report, "Loading")
    made = compress(run.model, run.recipe, device=device, report=report)
    figures = measure(run.model, made.model, run.recipe, device=device, split=split, report=report)
    if keep is not None:
        keep(figures.packed)
    return run.model_copy(
        update={
            "state": State.DONE,
            "baseline": figures.baseline,
            "compressed": figures.compressed,
            "delta": figures.delta,
            "environment": figures.environment,
            "seconds": time.perf_counter() - started,
            "notes": (*made.notes, *figures.notes, *_accuracy_note(figures)),
            "stopped_early": made.stopped,
            "timings": figures.timings,
            "accounts": figures.accounts,
            "exported": figures.exported,
            "search_top1": _search_top1(run, made.model, device) if split == REPORT else None,
        }
    )


def _accuracy_note(figures: Figures) -> tuple[str, ...]:
    top1 = figures.compressed.top1
    if figures.environment["split"] != REPORT or top1 is None:
        return ()
    return (unsearched_images(top1.n),)


def _search_top1(run: Run, model: nn.Module, device: str) -> Interval:
    """Accuracy on the images that the recipe has chosen by."""
    split = load_dataset(str(run.dataset)).search
    predictions = predict(materialize(model), split, device)
    return proportion(int(predictions.right.sum()), len(split))
