"""The one queue: everything that is to be done for a run, from its request to its end.

A job is claimed by one owner (a runner), which keeps saying that it is alive, and ends it. Whoever
goes on for a job that is no longer its own changes nothing. The kinds differ only in what is done
and where the result goes: `Runs.finish`, `LatencyReports.finish`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from compression.errors import StoreError
from compression.runs.database import Database, jobs
from compression.runs.progress import Progress
from compression.runs.results import ACTIVE, State

# Deaths of its own worker, since it began or last wrote a checkpoint, that end a job.
MAX_DEATHS = 2


class Kind(StrEnum):
    """What is to be done for a run: itself, a latency report, its own latency once more."""

    RUN = "run"
    LATENCY = "latency"
    REMEASURE = "remeasure"


@dataclass(frozen=True)
class Job:
    """One thing to be done for a run. Times are seconds since 1970.

    `attempts` counts how often it was claimed, `deaths` how often its own worker died since it
    began or last wrote a checkpoint (`saved`). `cancelling` is the request to stop; `cut_short`
    says that training has stopped because of one, and the best model so far goes on. `message` is
    why it failed, `traceback` is for whoever mends it.
    """

    kind: Kind
    run_id: str
    state: State
    created: float
    updated: float
    attempts: int = 0
    deaths: int = 0
    owner: str | None = None
    cancelling: bool = False
    saved: bool = False
    cut_short: bool = False
    progress: Progress | None = None
    message: str = ""
    traceback: str = ""


class Jobs:
    """The jobs in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, run_id: str, kind: Kind = Kind.RUN) -> Job | None:
        """The job of that kind for a run, whatever its state; None if there never was one."""
        with self._database.read() as c:
            row = c.execute(jobs.select().where(_is(run_id, kind))).one_or_none()
        return None if row is None else to_job(row)

    def running(self, owner: str) -> list[Job]:
        """The jobs that `owner` has claimed and that have not ended."""
        with self._database.read() as c:
            return [to_job(row) for row in c.execute(jobs.select().where(_running_of(owner)))]

    def claim(self, owner: str, kind: Kind = Kind.RUN) -> Job | None:
        """Take the oldest queued job of a kind for `owner` and mark it running; None if none."""
        oldest = jobs.select().where(jobs.c.kind == kind, jobs.c.state == State.QUEUED)
        oldest = oldest.order_by(jobs.c.created, jobs.c.run).limit(1)
        while True:
            with self._database.read() as c:
                row = c.execute(oldest).one_or_none()
            if row is None:
                return None
            queued = _is(row.run, kind) & (jobs.c.state == State.QUEUED)
            now = time.time()
            claimed = {"state": State.RUNNING, "owner": owner, "attempts": row.attempts + 1}
            with self._database.write() as c:
                # another owner may have been quicker: then the next one
                if _change(c, queued, **claimed, heartbeat=now):
                    row = c.execute(jobs.select().where(_is(row.run, kind))).one()
                    return to_job(row)

    def beat(self, owner: str) -> None:
        """Say that `owner` is alive and still has its running jobs."""
        with self._database.write() as c:
            c.execute(jobs.update().where(_running_of(owner)).values(heartbeat=time.time()))

    def report(self, job: Job, progress: Progress) -> bool:
        """Store how far a claimed job is. True if it has to stop.

        That is: somebody asked for it, or it is no longer running, or no longer its owner's.
        """
        with self._database.write() as c:
            mine = _change(
                c, _mine(job), progress=progress.model_dump_json(), heartbeat=time.time()
            )
            cancel = c.execute(sa.select(jobs.c.cancel).where(_is(job.run_id, job.kind))).scalar()
        return not mine or bool(cancel)

    def saved(self, job: Job) -> None:
        """A checkpoint was written: deaths before it no longer count."""
        with self._database.write() as c:
            _change(c, _mine(job), saved=True, deaths=0, heartbeat=time.time())

    def kept(self, job: Job) -> None:
        """The request to cancel is fulfilled: training stopped, the best model so far goes on.

        It is remembered, so that training stays stopped should the job be interrupted now.
        """
        with self._database.write() as c:
            _change(c, _mine(job), cancel=False, cut_short=True, heartbeat=time.time())

    def fail(self, job: Job, message: str, traceback: str = "") -> bool:
        """End a claimed job that cannot be done. False if it was no longer its owner's."""
        with self._database.write() as c:
            return end(c, job, State.FAILED, message=message, traceback=traceback)

    def stopped(self, job: Job) -> bool:
        """End a claimed job as cancelled, after it has stopped. False if no longer its owner's."""
        with self._database.write() as c:
            return end(c, job, State.CANCELLED)

    def cancel(self, run_id: str, kind: Kind = Kind.RUN) -> None:
        """Ask for a job to stop: at once when queued, at its next report when running."""
        with self._database.write() as c:
            # The request first: whoever claims the job between the two statements still sees it.
            _change(c, _is(run_id, kind) & jobs.c.state.in_(ACTIVE), cancel=True)
            queued = _is(run_id, kind) & (jobs.c.state == State.QUEUED)
            _change(c, queued, state=State.CANCELLED, **_ENDED)

    def resume(self, job: Job) -> bool:
        """Queue again a job whose own worker died, if that worker had saved a checkpoint of it.

        One that dies again before it has saved another is not: it would die there for ever.
        """
        fresh = jobs.c.saved & ~jobs.c.cancel & (jobs.c.deaths < MAX_DEATHS - 1)
        with self._database.write() as c:
            return _change(c, _mine(job) & fresh, **_QUEUED_AGAIN, deaths=jobs.c.deaths + 1)

    def release(self, owner: str) -> None:
        """Give back what `owner` was doing, because it is going away in good order."""
        self._requeue(jobs.c.owner == owner)

    def recover(self, silent_seconds: float) -> None:
        """Queue again every running job whose owner has been silent for so many seconds.

        However often: that says nothing against the job, whose own worker has not died of it.
        """
        self._requeue(jobs.c.heartbeat < time.time() - silent_seconds)

    def _requeue(self, which: sa.ColumnElement[bool]) -> None:
        running = which & (jobs.c.state == State.RUNNING)
        with self._database.write() as c:
            _change(c, running & jobs.c.cancel, state=State.CANCELLED, **_ENDED)
            _change(c, running & ~jobs.c.cancel, **_QUEUED_AGAIN)


_QUEUED_AGAIN: dict[str, Any] = {"state": State.QUEUED, "owner": None, "progress": None}
_ENDED: dict[str, Any] = {"progress": None, "saved": False, "cut_short": False}


def put_job(c: sa.Connection, run_id: str, kind: Kind, state: State) -> None:
    """Put a job in, in place of the one of that kind for that run if there was one."""
    now = time.time()
    c.execute(jobs.delete().where(_is(run_id, kind)))
    c.execute(jobs.insert().values(kind=kind, run=run_id, state=state, created=now, updated=now))


def end(c: sa.Connection, job: Job, state: State, **values: Any) -> bool:
    """End a claimed job. False, and nothing changed, if it was no longer its owner's."""
    return _change(c, _mine(job), state=state, **_ENDED, **values)


def cancel_all(c: sa.Connection, run_id: str) -> None:
    """End all that is queued or running for a run, at once: it is no longer its owner's."""
    active = (jobs.c.run == run_id) & jobs.c.state.in_(ACTIVE)
    _change(c, active, state=State.CANCELLED, **_ENDED)


def to_job(row: Any) -> Job:
    """A row of the table of jobs as a value.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return Job(
            kind=Kind(row.kind),
            run_id=row.run,
            state=State(row.state),
            created=row.created,
            updated=row.updated,
            attempts=row.attempts,
            deaths=row.deaths,
            owner=row.owner,
            cancelling=row.cancel,
            saved=row.saved,
            cut_short=row.cut_short,
            progress=Progress.model_validate_json(row.progress) if row.progress else None,
            message=row.message,
            traceback=row.traceback or "",
        )
    except (ValidationError, ValueError):
        raise StoreError(
            f"store: the job of run {row.run} cannot be read; it is damaged or was written by "
            "another version of this program"
        ) from None


def _change(c: sa.Connection, which: sa.ColumnElement[bool], **values: Any) -> bool:
    done = c.execute(jobs.update().where(which).values(updated=time.time(), **values))
    return done.rowcount > 0


def _is(run_id: str, kind: Kind) -> sa.ColumnElement[bool]:
    return (jobs.c.run == run_id) & (jobs.c.kind == kind)


def _mine(job: Job) -> sa.ColumnElement[bool]:
    running = (jobs.c.state == State.RUNNING) & (jobs.c.owner == job.owner)
    return _is(job.run_id, job.kind) & running


def _running_of(owner: str) -> sa.ColumnElement[bool]:
    return (jobs.c.owner == owner) & (jobs.c.state == State.RUNNING)
