"""What happens inside a worker process: one job, from its claim to its result in the store."""

from __future__ import annotations

import math
import os
import time
import traceback
from collections.abc import Callable
from functools import cache, partial

import torch
from dask.system import CPU_COUNT

from compression.catalogue.cards import card
from compression.errors import Cancelled, CompressionError
from compression.jobs.execute import execute
from compression.jobs.packed_source import source_of
from compression.jobs.remeasure import remeasure
from compression.measure.latency_report import plan
from compression.measure.latency_report import report as measure_latency
from compression.models.load import describe_weights, load_model
from compression.runs.progress import Curve, Progress, Report
from compression.runs.results import Run
from compression.runs.store import Job, Kind, Store, open_store

REPORT_SECONDS = 0.25
CURVE_SECONDS = 1.0


def work(store_url: str, job: Job) -> None:
    """Do a job and store how it ended. Runs in a worker process."""
    store = _prepare(store_url)
    try:
        _DO[job.kind](store, job)
    except Cancelled:
        store.jobs.stopped(job)
    except CompressionError as error:
        store.jobs.fail(job, str(error), traceback.format_exc())
    except Exception as error:
        store.jobs.fail(job, _reason(error), traceback.format_exc())


def _do_run(store: Store, job: Job) -> None:
    """Apply a run's recipe and measure it."""
    stored = store.runs.get(job.run_id)
    report = Reporter(store, job)
    try:
        keep = partial(store.files.put, job.run_id)
        done = execute(stored.run, device=stored.device, report=report, keep=keep, store=store)
    finally:
        report.flush()
    _describe(store, stored.run)
    store.runs.finish(job, done)


def _make_latency_report(store: Store, job: Job) -> None:
    """Time a finished run in everything that runs it here."""
    stored, draw = store.runs.get(job.run_id), _drawing(store, job)
    source = source_of(store, stored.run, stored.device)
    timings = plan(stored.run.recipe.quantizes, source.target.device)
    report = measure_latency(
        stored.run,
        source.target,
        source.model(),
        timings,
        tell=lambda stage, fraction: draw(Progress(stage=stage, fraction=fraction)),
    )
    notes = (*source.notes, *report.notes)
    store.latency.finish(job, report.model_copy(update={"notes": notes}))


def _measure_latency_again(store: Store, job: Job) -> None:
    """Replace the latency of a finished run, and of its certificate."""
    stored = store.runs.get(job.run_id)
    report = _drawing(store, job)
    run, certificate = remeasure(store, stored.run, device=stored.device, report=report)
    if store.runs.finish(job, run) and certificate:
        store.certificates.put(run.id, certificate)


def _drawing(store: Store, job: Job) -> Report:
    """Carries into the store how far a job is that keeps nothing when it is stopped."""
    last = -math.inf

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < CURVE_SECONDS:
            return
        last = now
        if store.jobs.report(job, progress):
            raise Cancelled("Cancelled.")  # or the run was deleted

    return report


_DO: dict[Kind, Callable[[Store, Job], None]] = {
    Kind.RUN: _do_run,
    Kind.LATENCY: _make_latency_report,
    Kind.REMEASURE: _measure_latency_again,
}


@cache
def _prepare(store_url: str) -> Store:
    torch.set_num_threads(int(os.environ.get("COMPRESSION_THREADS") or CPU_COUNT))
    return open_store(store_url)


class Reporter:
    """Carries what the engine reports into the store, and a request to stop back to the engine."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store, self._job = store, job
        self._reported = self._drawn = -math.inf
        self._curve: Curve | None = None
        # whether the last report offered to stop and keep: a person may take that up too late, when
        # the training has just ended, and does not mean to lose it
        self._offered = False
        # cancelled and kept by a worker that died before it could measure it
        self._keep = job.cut_short

    def __call__(self, progress: Progress) -> None:
        """Store a report; the many that come between two are dropped, but for what must be kept.

        Raises:
            Cancelled: the run has to stop.
        """
        now = time.monotonic()
        self._draw(progress.curve, now)
        if progress.saved:
            self._store.jobs.saved(self._job)
        if self._keep and progress.keeps:
            self._keep = False
            raise Cancelled("Cancelled.")
        if now - self._reported < REPORT_SECONDS:
            return
        self._reported, offered = now, self._offered
        self._offered = progress.keeps
        if self._store.jobs.report(self._job, progress):
            if progress.keeps or offered:
                self._store.jobs.kept(self._job)
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
            self._store.curves.put(self._job.run_id, self._curve)
            self._curve = None


def _describe(store: Store, run: Run) -> None:
    """Keep how the weights of a downloaded model are spread: its card cannot say."""
    if card(run.model).weights is None and store.facts.get("weights", run.model) is None:
        weights = describe_weights(load_model(run.model))
        store.facts.put("weights", run.model, weights.model_dump(mode="json"))


def _reason(error: Exception) -> str:
    detail = " ".join(str(error).split())[:200]
    return f"Unexpected {type(error).__name__}: {detail or 'no further detail'}."
