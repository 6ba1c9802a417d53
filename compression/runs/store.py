"""The store of runs and the queue they wait in: the one truth shared by pages, workers and the
command line."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from compression.paths import data_dir
from compression.runs.database import (
    facts,
    open_database,
    put_fact,
    runs,
)
from compression.runs.latency_requests import LatencyRequests
from compression.runs.progress import Progress
from compression.runs.records import (
    StoredRun,
    checkpoint_of,
    new_run,
    passing_facts_of,
    to_entry,
)
from compression.runs.results import ACTIVE, Run, State

__all__ = ["MAX_ATTEMPTS", "Store", "StoredRun", "default_url", "new_run", "open_store"]

MAX_ATTEMPTS = 2


def default_url() -> str:
    """SQLite file in this person's data folder."""
    return f"sqlite:///{data_dir() / 'runs.sqlite'}"


class Store(LatencyRequests):
    """An open store. Safe to use from several threads and processes at once."""

    def claim(self, owner: str) -> StoredRun | None:
        """Take the oldest queued run for `owner` and mark it running; None if there is none."""
        oldest = runs.select().where(runs.c.state == State.QUEUED)
        oldest = oldest.order_by(runs.c.created, runs.c.id).limit(1)
        while True:
            with self._read() as c:
                row = c.execute(oldest).one_or_none()
            if row is None:
                return None
            entry = to_entry(row)
            if self._move(entry.run, State.QUEUED, State.RUNNING, owner=owner):
                run = entry.run.model_copy(update={"state": State.RUNNING})
                return replace(entry, run=run, owner=owner, attempts=entry.attempts + 1)

    def _move(
        self,
        run: Run,
        old: State,
        new: State,
        notes: tuple[str, ...] = (),
        *,
        only: tuple[sa.ColumnElement[bool], ...] = (),
        **values: Any,
    ) -> bool:
        """Change the state if it is still `old` and `only` holds. Says whether it did."""
        body = run.model_copy(update={"state": new, "notes": (*run.notes, *notes)}).to_json()
        now = time.time()
        if new is State.RUNNING:
            values |= {"attempts": runs.c.attempts + 1, "heartbeat": now}
        with self._write() as c:
            done = c.execute(
                runs.update()
                .where(runs.c.id == run.id, runs.c.state == old, *only)
                .values(state=new, body=body, updated=now, progress=None, **values)
            )
            if done.rowcount == 1 and new not in ACTIVE:
                c.execute(facts.delete().where(passing_facts_of(run.id)))
        return done.rowcount == 1

    def report(self, run_id: str, progress: Progress, owner: str | None = None) -> bool:
        """Store how far a running run is. True if it has to stop.

        That is: somebody asked for it, or it is no longer running, or no longer `owner`'s.
        """
        with self._write() as c:
            running = self._touch(c, run_id, owner, progress=progress.model_dump_json())
            cancel = c.execute(sa.select(runs.c.cancel).where(runs.c.id == run_id)).scalar()
        return not running or bool(cancel)

    def kept(self, run_id: str, owner: str | None = None) -> None:
        """The wish to cancel has been met: the training stopped, the best so far goes on.

        It is remembered, so that the training stays stopped should the run be interrupted now.
        """
        with self._write() as c:
            if self._touch(c, run_id, owner, cancel=False):
                put_fact(c, "kept", run_id, {"time": time.time()})

    def saved(self, run_id: str, owner: str | None = None) -> None:
        """A checkpoint was written: from here a run may be interrupted as if for the first time."""
        with self._write() as c:
            if self._touch(c, run_id, owner, attempts=1):
                put_fact(c, "checkpoint", run_id, {"time": time.time()})

    def _touch(self, c: sa.Connection, run_id: str, owner: str | None, **values: Any) -> bool:
        mine = (runs.c.id == run_id, runs.c.state == State.RUNNING, *_held_by(owner))
        now = time.time()
        done = c.execute(runs.update().where(*mine).values(heartbeat=now, updated=now, **values))
        return done.rowcount == 1

    def beat(self, owner: str) -> None:
        """Say that `owner` is alive and still has its running runs."""
        with self._write() as c:
            c.execute(
                runs.update()
                .where(runs.c.owner == owner, runs.c.state == State.RUNNING)
                .values(heartbeat=time.time())
            )

    def finish(self, run: Run, owner: str | None = None) -> bool:
        """Store a measured run. False if it was no longer running, or no longer `owner`'s."""
        return self._move(run, State.RUNNING, State.DONE, only=_held_by(owner))

    def fail(self, run: Run, reason: str, traceback: str = "", owner: str | None = None) -> bool:
        """Mark a running run as failed, with the reason as its last note."""
        only = _held_by(owner)
        return self._move(
            run, State.RUNNING, State.FAILED, (reason,), only=only, traceback=traceback
        )

    def cancel(self, run_id: str) -> None:
        """Ask for a run to stop: at once when queued, at its next report when running."""
        entry = self.get(run_id)
        # The wish first: a runner that takes the run between the two statements still sees it.
        with self._write() as c:
            c.execute(
                runs.update()
                .where(runs.c.id == entry.run.id, runs.c.state.in_(ACTIVE))
                .values(cancel=True, updated=time.time())
            )
        self._move(entry.run, State.QUEUED, State.CANCELLED)

    def stopped(self, run: Run, owner: str | None = None) -> bool:
        """Mark a running run as cancelled, after it has stopped."""
        return self._move(run, State.RUNNING, State.CANCELLED, only=_held_by(owner))

    def resume(self, run: Run, owner: str) -> bool:
        """Queue again a run whose worker died, if that worker had saved a checkpoint of it.

        One that dies again before it has saved another is not: it would die there for ever.
        """
        fresh = (runs.c.attempts < MAX_ATTEMPTS, runs.c.cancel.is_(False))
        saved = sa.exists().where(checkpoint_of(run.id))
        only = (*_held_by(owner), *fresh, saved)
        return self._move(run, State.RUNNING, State.QUEUED, only=only, owner=None)

    def release(self, owner: str) -> None:
        """Give back what `owner` was running, because it is going away in good order."""
        self._requeue(runs.c.owner == owner)

    def recover(self, silent_seconds: float) -> None:
        """Queue again every running run nobody has spoken for in so many seconds.

        Once; and once more after each checkpoint.
        """
        self._requeue(runs.c.heartbeat < time.time() - silent_seconds)

    def _requeue(self, which: sa.ColumnElement[bool]) -> None:
        with self._read() as c:
            rows = c.execute(runs.select().where(runs.c.state == State.RUNNING, which)).all()
        for row in rows:
            entry = to_entry(row)
            # Another process may be doing the same: act only on the attempt that was read.
            only = (which, runs.c.attempts == entry.attempts)
            if entry.cancelling:
                self._move(entry.run, State.RUNNING, State.CANCELLED, only=only)
            elif entry.attempts < MAX_ATTEMPTS:
                self._move(entry.run, State.RUNNING, State.QUEUED, only=only, owner=None)
            else:
                saved = self.fact("checkpoint", entry.run.id) is not None
                since = "since its last checkpoint" if saved else "before it could finish"
                reason = f"Interrupted {entry.attempts} times {since}; not tried again."
                self._move(entry.run, State.RUNNING, State.FAILED, (reason,), only=only)


def open_store(url: str | None = None) -> Store:
    """Open a store, making it first if it is new.

    Raises:
        StoreError: the URL is not one, or nothing can be opened or written there.
    """
    return Store(open_database(url or default_url()))


def _held_by(owner: str | None) -> tuple[sa.ColumnElement[bool], ...]:
    return () if owner is None else (runs.c.owner == owner,)
