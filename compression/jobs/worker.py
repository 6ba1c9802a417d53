"""What happens inside a worker process: one run, from its settings to its figures in the store."""

from __future__ import annotations

import math
import os
import time
import traceback
from functools import cache, partial

import torch
from dask.system import CPU_COUNT

from compression.catalogue.cards import card
from compression.errors import Cancelled, CompressionError
from compression.jobs.execute import execute
from compression.jobs.packed_source import source_of
from compression.measure.latency_report import plan
from compression.measure.latency_report import report as measure_latency
from compression.models.load import describe_weights, load_model
from compression.runs.progress import Curve, Progress
from compression.runs.results import Run
from compression.runs.store import Store, StoredRun, open_store

REPORT_SECONDS = 0.25
CURVE_SECONDS = 1.0


def work(store_url: str, entry: StoredRun) -> None:
    """Apply and measure one run, and store how it ended. Runs in a worker process."""
    store = _prepare(store_url)
    run = entry.run
    report = Reporter(store, entry)
    try:
        try:
            keep = partial(store.put_file, run.id)
            done = execute(run, device=entry.device, report=report, keep=keep, store=store)
        finally:
            report.flush()
        _describe(store, run)
        store.finish(done, entry.owner)
    except Cancelled:
        store.stopped(run, entry.owner)
    except CompressionError as error:
        store.fail(run, str(error), traceback.format_exc(), entry.owner)
    except Exception as error:
        store.fail(run, _reason(error), traceback.format_exc(), entry.owner)


def make_latency_report(store_url: str, run_id: str, owner: str) -> None:
    """Make the latency report that somebody wants of a run. Runs in a worker process."""
    store = _prepare(store_url)
    told = -math.inf

    def tell(stage: str, done: float) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < CURVE_SECONDS:
            return
        told = now
        said = store.report_latency(run_id, owner, f"{stage}, {100 * done:.0f} % done")
        if not said and store.latency_request(run_id) is None:
            raise Cancelled("Cancelled.")  # the run was deleted

    try:
        entry = store.get(run_id)
        source = source_of(store, entry.run, entry.device)
        wanted = plan(entry.run.recipe.quantizes, source.target.device)
        found = measure_latency(entry.run, source.target, source.model(), wanted, tell=tell)
        notes = (*source.notes, *found.notes)
        store.fulfil_latency(run_id, owner, found.model_copy(update={"notes": notes}))
    except Cancelled:
        return
    except CompressionError as error:
        store.fail_latency(run_id, owner, str(error))
    except Exception as error:
        store.fail_latency(run_id, owner, _reason(error))


@cache
def _prepare(store_url: str) -> Store:
    torch.set_num_threads(int(os.environ.get("COMPRESSION_THREADS") or CPU_COUNT))
    return open_store(store_url)


class Reporter:
    """Carries what the engine reports into the store, and the wish to stop back to the engine."""

    def __init__(self, store: Store, entry: StoredRun) -> None:
        self._store, self._id, self._owner = store, entry.run.id, entry.owner
        self._reported = self._drawn = -math.inf
        self._curve: Curve | None = None
        # whether the last report offered to stop and keep: a person may take that up too late, when
        # the training has just ended, and does not mean to lose it
        self._offered = False
        # cancelled and kept by a worker that died before it could measure it
        self._keep = store.fact("kept", self._id) is not None

    def __call__(self, progress: Progress) -> None:
        """Store a report; the many that come between two are dropped, but for what must be kept.

        Raises:
            Cancelled: the run has to stop.
        """
        now = time.monotonic()
        self._draw(progress.curve, now)
        if progress.saved:
            self._store.saved(self._id, self._owner)
        if self._keep and progress.keeps:
            self._keep = False
            raise Cancelled("Cancelled.")
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported, offered = now, self._offered
        self._offered = progress.keeps
        if self._store.report(self._id, progress, self._owner):
            if progress.keeps or offered:
                self._store.kept(self._id, self._owner)
            if progress.keeps or not offered:
                raise Cancelled("Cancelled.")

    def _draw(self, curve: Curve | None, now: float) -> None:
        if curve is not None:
            if self._curve is not None and curve.at != self._curve.at:
                self.flush()
            self._curve = curve
        if self._curve is not None and now - self._drawn >= CURVE_SECONDS:
            self._drawn = now
            self.flush()

    def flush(self) -> None:
        """Store the last curve that came, if it is not stored yet."""
        if self._curve is not None:
            self._store.put_curve(self._id, self._curve)
            self._curve = None


def _describe(store: Store, run: Run) -> None:
    """Keep how the weights of a downloaded model are spread: its card cannot say."""
    if card(run.model).weights is None and store.fact("weights", run.model) is None:
        weights = describe_weights(load_model(run.model))
        store.put_fact("weights", run.model, weights.model_dump(mode="json"))


def _reason(error: Exception) -> str:
    detail = " ".join(str(error).split())[:200]
    return f"Unexpected {type(error).__name__}: {detail or 'no further detail'}."
