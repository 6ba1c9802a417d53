"""The runner: takes queued jobs from the store and has them done by Dask workers.

The store is the queue and the truth; `compression.jobs.command` starts one.
"""

# mypy: allow-untyped-calls
# (distributed is not fully typed)

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future, KilledWorker

from compression.errors import StoreError
from compression.jobs.dask_cluster import Deaths, gigabytes, kill_worker
from compression.paths import configure_process
from compression.runs.store import Job, Kind, Store

POLL_SECONDS = 0.2
BEAT_SECONDS = 2.0
SILENT_SECONDS = 15.0
CANCEL_SECONDS = 20.0
_MEMORY_TOPIC = "worker-restart-memory"  # Dask's nannies log there whom they stopped, and why

Work = Callable[[str, Job], None]
log = logging.getLogger("compression.jobs")


def do_job(store_url: str, job: Job) -> None:
    """What a worker does with a job."""
    configure_process()
    # The engine is imported by workers only: the runner's process stays small.
    from compression.jobs.worker import work

    work(store_url, job)


@dataclass
class _Submitted:
    job: Job
    future: Future[None]
    cancelled_at: float | None = None


@dataclass
class Runner:
    """Moves jobs from the store's queue through a cluster, whenever `tick` is called.

    Latency is measured when no run is under way, and no run is started on the worker that does it.
    """

    store: Store
    client: Client
    work: Work = do_job
    deaths: Deaths | None = None
    owner: str = field(
        default_factory=lambda: f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"
    )
    _submitted: dict[tuple[str, Kind], _Submitted] = field(default_factory=dict)
    _next_beat: float = 0.0
    _workers: int = 1

    def tick(self) -> None:
        """Collect what has ended, keep the rest alive, and start what is queued."""
        for submitted in [s for s in self._submitted.values() if s.future.done()]:
            self._collect(submitted)
        if time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + BEAT_SECONDS
            self._workers = max(1, len(self.client.nthreads()))
            self.store.jobs.beat(self.owner)
            self.store.jobs.recover(SILENT_SECONDS)
            self._stop_cancelled()
        while len(self._submitted) < self._workers and (job := self.store.jobs.claim(self.owner)):
            self._submit(job)
        for kind in (Kind.REMEASURE, Kind.LATENCY):
            if not self._submitted and (job := self.store.jobs.claim(self.owner, kind)):
                self._submit(job)

    def _submit(self, job: Job) -> None:
        # a key of its own: Dask would give back the result of an earlier attempt
        key = f"{job.kind}-{job.run_id}-{secrets.token_hex(4)}"
        future = self.client.submit(self.work, self.store.url, job, key=key, pure=False)
        self._submitted[job.run_id, job.kind] = _Submitted(job, future)

    def _collect(self, submitted: _Submitted) -> None:
        job, error = submitted.job, submitted.future.exception()
        if error is not None:
            # What the worker itself stored comes first: a job that has ended is not running.
            now = self.store.jobs.get(job.run_id, job.kind)
            if now is not None and now.cancelling:
                self.store.jobs.stopped(job)
            elif not self._resumes(job, error):
                self.store.jobs.fail(job, self._why(error))
        del self._submitted[job.run_id, job.kind]

    def _resumes(self, job: Job, error: BaseException) -> bool:
        """Queue the job again if its worker was killed and it can go on from a checkpoint."""
        killed = isinstance(error, KilledWorker) and self._memory_event(error) is None
        return killed and self.store.jobs.resume(job)

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
        ending = self._ending_of(worker.pid)
        if "SIGKILL" in ending:
            ending += ", as the system does when the machine runs out of memory"
        return f"The worker process {ending}. It has been started again; other runs go on."

    def _memory_event(self, error: KilledWorker) -> dict[str, Any] | None:
        """What its nanny logged if it stopped the worker for its memory."""
        events = (event for _stamp, event in self.client.get_events(_MEMORY_TOPIC))
        return next((e for e in events if e["pid"] == error.last_worker.pid), None)

    def _ending_of(self, pid: int) -> str:
        until = time.monotonic() + 2
        while self.deaths and pid not in self.deaths.endings and time.monotonic() < until:
            time.sleep(0.05)
        return (self.deaths.endings if self.deaths else {}).get(
            pid, "exited without an error message"
        )

    def _stop_cancelled(self) -> None:
        """Kill the worker under a job that was asked to stop and has not; its nanny restarts it."""
        for job in self.store.jobs.running(self.owner) if self._submitted else ():
            submitted = self._submitted.get((job.run_id, job.kind))
            if submitted is None:
                continue
            if not job.cancelling:
                submitted.cancelled_at = None  # the request was fulfilled by ending the training
                continue
            submitted.cancelled_at = submitted.cancelled_at or time.monotonic()
            if time.monotonic() - submitted.cancelled_at >= CANCEL_SECONDS:
                submitted.cancelled_at = None
                key = submitted.future.key
                busy = [w for w, keys in self.client.processing().items() if key in keys]
                self.client.run(kill_worker, workers=busy, nanny=True, on_error="ignore")

    def close(self) -> None:
        """Give back what is running, to be done by the next runner."""
        self.store.jobs.release(self.owner)


def serve(runner: Runner, stop: threading.Event) -> None:
    """Tick until `stop` is set. A store that cannot be reached is tried again."""
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
