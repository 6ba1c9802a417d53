"""What happens inside a worker process: one run, from its settings to its figures in the store."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from functools import cache

import torch
from dask.system import CPU_COUNT

from compression.catalogue import card
from compression.errors import Cancelled, CompressionError
from compression.models import describe_weights, load_model
from compression.pipeline import execute
from compression.run import Progress, Run
from compression.store import Entry, Store, open_store

REPORT_SECONDS = 0.25
NICENESS = 5


def dask_setup(_worker: object) -> None:
    """Called by Dask when a worker has started: importing this module has warmed it."""
    # Pages and other people's programs go first.
    os.nice(NICENESS)


def work(store_url: str, entry: Entry) -> None:
    """Apply and measure one run, and store how it ended. Runs in a worker process."""
    store = _prepare(store_url)
    run = entry.run
    try:
        done = execute(run, device=entry.device, report=_reporter(store, entry))
        _describe(store, run)
        store.finish(done, entry.owner)
    except Cancelled:
        store.stopped(run, entry.owner)
    except CompressionError as error:
        store.fail(run, str(error), traceback.format_exc(), entry.owner)
    except Exception as error:
        store.fail(run, _reason(error), traceback.format_exc(), entry.owner)


@cache
def _prepare(store_url: str) -> Store:
    torch.set_num_threads(int(os.environ.get("COMPRESSION_THREADS") or CPU_COUNT))
    return open_store(store_url)


def _reporter(store: Store, entry: Entry) -> Callable[[Progress], None]:
    last = 0.0

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < REPORT_SECONDS:
            return
        last = now
        if store.report(entry.run.id, progress, entry.owner):
            raise Cancelled("Cancelled.")

    return report


def _describe(store: Store, run: Run) -> None:
    """Keep how the weights of a downloaded model are spread: its card cannot say."""
    if card(run.model).weights is None and store.fact("weights", run.model) is None:
        weights = describe_weights(load_model(run.model))
        store.put_fact("weights", run.model, weights.model_dump(mode="json"))


def _reason(error: Exception) -> str:
    detail = " ".join(str(error).split())[:200]
    return f"Unexpected {type(error).__name__}: {detail or 'no further detail'}."
