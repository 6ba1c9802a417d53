"""Do a run: compress, measure, give back what is stored."""

from __future__ import annotations

import time
from collections.abc import Callable

from compression.catalogue.cards import card
from compression.errors import InvalidInput
from compression.measure.comparison import measure
from compression.methods.pipeline import compress, resolve_device
from compression.runs.progress import Report, stage
from compression.runs.results import Run, State


def execute(
    run: Run,
    *,
    device: str = "auto",
    split: str = "validation",
    report: Report | None = None,
    keep: Callable[[bytes], object] | None = None,
) -> Run:
    """Apply the run's recipe, measure on a split, and give the run back as done.

    `report` is called often and may raise `Cancelled`; `keep` gets the packed file.

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
            "notes": (*made.notes, *figures.notes),
            "stopped_early": made.stopped,
            "timings": figures.timings,
            "accounts": figures.accounts,
            "exported": figures.exported,
        }
    )
