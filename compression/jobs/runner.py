"""The runner: takes queued runs from the store and has them done by Dask workers.

The store is the queue and the truth. `python -m compression.jobs --store URL` starts a scheduler
and warm workers on the loopback address, or uses a running cluster with `--scheduler`. It ends in
good order on SIGTERM or SIGINT, or when the pipe on its standard input closes, so that it never
outlives the program that started it.
"""

# mypy: allow-untyped-calls
# (distributed is not fully typed)

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future, KilledWorker

from compression.errors import CompressionError, StoreError
from compression.jobs.dask_cluster import (
    Deaths,
    default_memory_limit,
    gigabytes,
    kill_worker,
    parse_memory,
    start_cluster,
)
from compression.paths import configure_process
from compression.runs.results import Run, State
from compression.runs.store import Store, StoredRun, open_store

POLL_SECONDS = 0.2
BEAT_SECONDS = 2.0
SILENT_SECONDS = 15.0
CANCEL_SECONDS = 20.0
_MEMORY_TOPIC = "worker-restart-memory"  # Dask's nannies log there whom they stopped, and why

Work = Callable[[str, StoredRun], None]
MakeLatencyReport = Callable[[str, str, str], None]
log = logging.getLogger("compression.jobs")


@dataclass
class _Job:
    entry: StoredRun
    future: Future[None]
    cancelled_at: float | None = None


@dataclass
class Runner:
    """Moves runs from the store's queue through a cluster. One `tick` is one look at everything.

    A latency report that somebody wants is made when no run is under way, and no run is started on
    the worker that makes it.
    """

    store: Store
    client: Client
    work: Work
    deaths: Deaths | None = None
    owner: str = field(
        default_factory=lambda: f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
    )
    make_latency_report: MakeLatencyReport | None = None
    _jobs: dict[str, _Job] = field(default_factory=dict)
    _timing: tuple[str, Future[None]] | None = None
    _next_beat: float = 0.0
    _workers: int = 1

    def tick(self) -> None:
        """Collect what has ended, keep the rest alive, and start what is queued."""
        for job in [j for j in self._jobs.values() if j.future.done()]:
            self._collect(job)
        if self._timing and self._timing[1].done():
            self._collect_timing(*self._timing)
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_SECONDS
            self._workers = max(1, len(self.client.nthreads()))
            self.store.beat(self.owner)
            self.store.recover(SILENT_SECONDS)
            self._stop_cancelled()
            if self._timing:
                self.store.report_latency(self._timing[0], self.owner)
            self.store.recover_latency(SILENT_SECONDS)
        free = self._workers - bool(self._timing)
        while len(self._jobs) < free and (entry := self.store.claim(self.owner)):
            self._start(entry)
        if not self._jobs and not self._timing and self.make_latency_report:
            self._start_timing(self.make_latency_report)

    def _start_timing(self, make: MakeLatencyReport) -> None:
        run_id = self.store.claim_latency(self.owner)
        if run_id is not None:
            key = f"latency-{run_id}-{secrets.token_hex(4)}"
            given = (self.store.url, run_id, self.owner)
            self._timing = run_id, self.client.submit(make, *given, key=key, pure=False)

    def _collect_timing(self, run_id: str, future: Future[None]) -> None:
        error = future.exception()
        if error is not None:
            self.store.fail_latency(run_id, self.owner, self._why(error))
        self._timing = None

    def _start(self, entry: StoredRun) -> None:
        # not by its attempts, which a checkpoint resets: Dask would give back an older result
        key = f"run-{entry.run.id}-{secrets.token_hex(4)}"
        future = self.client.submit(self.work, self.store.url, entry, key=key, pure=False)
        self._jobs[entry.run.id] = _Job(entry, future)

    def _collect(self, job: _Job) -> None:
        run, error = job.entry.run, job.future.exception()
        if error is not None:
            # Its own words come first: a run that ended well is no longer running here.
            if any(e.cancelling for e in self._running() if e.run.id == run.id):
                self.store.stopped(run, self.owner)
            elif not self._resumes(run, error):
                self.store.fail(run, self._why(error), owner=self.owner)
        del self._jobs[run.id]

    def _resumes(self, run: Run, error: BaseException) -> bool:
        """Queue the run again if its worker was killed and it can go on from a checkpoint."""
        killed = isinstance(error, KilledWorker) and self._memory_event(error) is None
        return killed and self.store.resume(run, self.owner)

    def _running(self) -> list[StoredRun]:
        return self.store.entries(states=(State.RUNNING,)) if self._jobs else []

    def _why(self, error: BaseException) -> str:
        if not isinstance(error, KilledWorker):
            return f"The run was lost ({type(error).__name__}: {error}). Start it again."
        worker, event = error.last_worker, self._memory_event(error)
        if event:
            return (
                f"Out of memory: the worker reached {gigabytes(event['rss'])}, its limit is "
                f"{gigabytes(worker.memory_limit)}. Choose a smaller model, or set "
                "COMPRESSION_MEMORY_LIMIT higher and start again."
            )
        words = self._words(worker.pid)
        if "SIGKILL" in words:
            words += ", as the system does when the machine runs out of memory"
        return f"The worker process {words}. It has been started again; other runs go on."

    def _memory_event(self, error: KilledWorker) -> dict[str, Any] | None:
        """What its nanny logged if it stopped the worker for its memory."""
        events = (event for _stamp, event in self.client.get_events(_MEMORY_TOPIC))
        return next((e for e in events if e["pid"] == error.last_worker.pid), None)

    def _words(self, pid: int) -> str:
        until = time.monotonic() + 2
        while self.deaths and pid not in self.deaths.words and time.monotonic() < until:
            time.sleep(0.05)
        return (self.deaths.words if self.deaths else {}).get(pid, "stopped without a word")

    def _stop_cancelled(self) -> None:
        """Kill the worker under a run that was asked to stop and has not; its nanny restarts it."""
        for entry in self._running():
            job = self._jobs.get(entry.run.id)
            if job is None:
                continue
            if not entry.cancelling:
                job.cancelled_at = None  # the wish was met by ending the training
                continue
            job.cancelled_at = job.cancelled_at or time.monotonic()
            if time.monotonic() - job.cancelled_at >= CANCEL_SECONDS:
                job.cancelled_at = None
                key = job.future.key
                busy = [w for w, keys in self.client.processing().items() if key in keys]
                self.client.run(kill_worker, workers=busy, nanny=True, on_error="ignore")

    def close(self) -> None:
        """Give back what is running, to be done by the next runner."""
        self.store.release(self.owner)
        self.store.release_latency(self.owner)


def serve(runner: Runner, stop: threading.Event) -> None:
    """Tick until told to stop. A store that cannot be reached is tried again."""
    try:
        while not stop.wait(POLL_SECONDS):
            try:
                runner.tick()
            except StoreError as error:
                log.warning("%s", error)
                stop.wait(BEAT_SECONDS)
    finally:
        with suppress(StoreError):
            runner.close()


def _stop_with_parent(stop: threading.Event) -> None:
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def watch() -> None:
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=watch, daemon=True).start()


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("compression.jobs", description=__doc__)
    parser.add_argument("--store", help="SQLAlchemy URL; the default store if not given")
    parser.add_argument(
        "--memory-limit",
        default=os.environ.get("COMPRESSION_MEMORY_LIMIT") or str(default_memory_limit()),
        help="most memory a worker may use, such as 6GB (or COMPRESSION_MEMORY_LIMIT)",
    )
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--scheduler", help="address of a running cluster, such as tcp://host:8786")
    return parser.parse_args(arguments)


def run(arguments: list[str] | None = None) -> None:
    """Be the runner until told to stop.

    Raises:
        CompressionError: the store, the memory limit or the cluster is no good.
    """
    options = _arguments(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _stop_with_parent(stop)
    limit = parse_memory(options.memory_limit)
    store = open_store(options.store)
    with ExitStack() as stack:
        deaths = None
        if options.scheduler is None:
            deaths = Deaths()
            cluster = stack.enter_context(start_cluster(max(1, options.workers), limit))
            client = stack.enter_context(Client(cluster))
        else:
            client = stack.enter_context(Client(options.scheduler))
        serve(Runner(store, client, _work, deaths, make_latency_report=_make_latency_report), stop)
        if options.scheduler is None:
            # Do not wait for what they are in the midst of: it has been given back.
            client.run(kill_worker, nanny=True, on_error="ignore")


def _work(store_url: str, entry: StoredRun) -> None:
    # The engine is imported by workers only: this process stays small.
    configure_process()
    from compression.jobs.worker import work

    work(store_url, entry)


def _make_latency_report(store_url: str, run_id: str, owner: str) -> None:
    configure_process()
    from compression.jobs.worker import make_latency_report

    make_latency_report(store_url, run_id, owner)


def main() -> None:
    """Entry point of `python -m compression.jobs`."""
    configure_process()
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        run()
    except (CompressionError, OSError) as error:
        sys.exit(f"compression.jobs: {error}")
