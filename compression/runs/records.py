"""Runs as they are stored, each with how far its job is."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from compression.errors import InvalidInput
from compression.recipe.recipe import Recipe
from compression.runs.database import Database, facts, files, jobs, runs
from compression.runs.documents import Files, documents_of, parse_document
from compression.runs.jobs import Job, Jobs, Kind, end, put_job, to_job
from compression.runs.progress import Progress
from compression.runs.results import ACTIVE, Run, State


@dataclass(frozen=True)
class StoredRun:
    """A run as stored, with what only the store knows about it. Times are seconds since 1970.

    `owner` is the runner that has it, `traceback` why it failed, for whoever mends it.
    """

    run: Run
    device: str
    created: float
    updated: float
    attempts: int
    cancelling: bool
    progress: Progress | None
    owner: str | None = None
    traceback: str = ""


def new_run(model: str, dataset: str | None, recipe: Recipe, state: State = State.QUEUED) -> Run:
    """A run that has not been measured yet, with a fresh id.

    Args:
        model: an id listed by `compression models`.
        dataset: the id of the model's data set; None if it has none here.
        recipe: what is to be done.
        state: queued, unless it is about to be executed.

    Returns:
        The run, to be given to `execute` or put into a store's queue by `store.runs.add`.

    Example:
        >>> from compression import Quantize, Recipe, new_run
        >>> recipe = Recipe(steps=(Quantize(bits=4),))
        >>> new_run("fashion-mnist/resnet18", "fashion-mnist", recipe).state.value
        'queued'
    """
    return Run(
        id=secrets.token_hex(6),
        state=state,
        model=model,
        dataset=dataset,
        recipe=recipe,
        recipe_key=recipe.key,
        parent_key=recipe.parent.key if recipe.parent else None,
    )


def require_done(run: Run) -> None:
    """Refuse a run that has no results.

    Raises:
        InvalidInput: it is not done.
    """
    if run.state is not State.DONE:
        raise InvalidInput("run", run.id, f"a run that is done; this one is {run.state}")


def file_not_kept(run: Run) -> InvalidInput:
    """The refusal of a run stopped early: done again, its recipe would train to the end."""
    allowed = "a run whose file was kept; this one was stopped early and its file was not kept"
    return InvalidInput("run", run.id, allowed)


class Runs:
    """The runs in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, run: Run, device: str = "auto") -> None:
        """Put a run in: queued for a worker, or finished by the caller itself."""
        values = {"id": run.id, "model": run.model, "recipe_key": run.recipe_key}
        body, now = run.to_json(), time.time()
        with self._database.write() as c:
            c.execute(runs.insert().values(**values, device=device, created=now, body=body))
            put_job(c, run.id, Kind.RUN, run.state)

    def get(self, run_id: str) -> StoredRun:
        """The run with that id, or whose id begins so if only one does.

        Raises:
            InvalidInput: there is no such run, or several.
            StoreError: it is damaged, or another version of this program wrote it.
        """
        rows: list[Any] = []
        if re.fullmatch("[0-9A-Za-z-]+", run_id):
            with self._database.read() as c:
                rows = list(c.execute(_STORED.where(runs.c.id.like(f"{run_id}%")).limit(2)))
        if len(rows) != 1:
            what = "one run" if rows else "an id listed by `compression runs`"
            raise InvalidInput("run", run_id, what)
        return _stored(rows[0])

    def find(self, model: str | None = None, states: tuple[State, ...] = ()) -> list[StoredRun]:
        """Runs, oldest first; of one model and in some states only, if given.

        Raises:
            StoreError: one is damaged, or another version of this program wrote it.
        """
        query = _STORED.order_by(runs.c.created, runs.c.id)
        if model is not None:
            query = query.where(runs.c.model == model)
        if states:
            query = query.where(jobs.c.state.in_(states))
        with self._database.read() as c:
            return [_stored(row) for row in c.execute(query)]

    def finish(self, job: Job, run: Run) -> bool:
        """End a claimed job with the measured run. False if it was no longer its owner's."""
        body = run.model_copy(update={"state": State.DONE}).to_json()
        with self._database.write() as c:
            ended = end(c, job, State.DONE)
            if ended:
                c.execute(runs.update().where(runs.c.id == job.run_id).values(body=body))
        return ended

    def request(self, run_id: str, kind: Kind) -> None:
        """Queue a job for a finished run, unless there is one of that kind under way.

        Raises:
            InvalidInput: there is no such run, or it cannot be made again to be measured.
        """
        run = self.get(run_id).run
        require_done(run)
        if run.stopped_early and not Files(self._database).has(run.id):
            raise file_not_kept(run)
        job = Jobs(self._database).get(run.id, kind)
        if job is None or job.state not in ACTIVE:
            with self._database.write() as c:
                put_job(c, run.id, kind, State.QUEUED)

    def replace(self, run: Run) -> None:
        """Store a finished run in place of the one with its id. No such run, nothing stored."""
        with self._database.write() as c:
            c.execute(runs.update().where(runs.c.id == run.id).values(body=run.to_json()))

    def delete(self, run_id: str) -> None:
        """Remove a run for good, with all that is kept of it and all that is to be done for it."""
        with self._database.write() as c:
            c.execute(runs.delete().where(runs.c.id == run_id))
            c.execute(jobs.delete().where(jobs.c.run == run_id))
            c.execute(files.delete().where(files.c.run == run_id))
            c.execute(facts.delete().where(documents_of(run_id)))


_STORED = (
    sa.select(jobs, runs.c.id, runs.c.device, runs.c.body)
    .join_from(runs, jobs, jobs.c.run == runs.c.id)
    .where(jobs.c.kind == Kind.RUN)
)


@lru_cache(maxsize=4096)
def _parse_run(run_id: str, body: str) -> Run:
    # pages read the same runs every second
    return parse_document(Run, body, f"run {run_id}")


def _stored(row: Any) -> StoredRun:
    run, job = _parse_run(row.id, row.body), to_job(row)
    if run.state is not job.state:
        # its body is as it was put in: how far it is since, and why it failed, its job says
        notes = (*run.notes, job.message) if job.message else run.notes
        run = run.model_copy(update={"state": job.state, "notes": notes})
    return StoredRun(
        run=run,
        device=row.device,
        created=job.created,
        updated=job.updated,
        attempts=job.attempts,
        cancelling=job.cancelling,
        progress=job.progress,
        owner=job.owner,
        traceback=job.traceback,
    )
