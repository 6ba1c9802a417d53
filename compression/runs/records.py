"""The runs in a store: put in, found, named, pinned, hidden, removed and brought back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from compression.errors import InvalidInput, QueueFull
from compression.recipe.recipe import Recipe
from compression.runs.database import Database, facts, files, jobs, runs
from compression.runs.documents import Files, documents_of, lock_fact
from compression.runs.jobs import Job, Jobs, Kind, cancel_all, end, put_job
from compression.runs.results import ACTIVE, Run, State
from compression.runs.stored_run import (
    STORED,
    StoredRun,
    is_removed,
    one_line,
    row_of,
    to_stored_run,
    under_way,
)

# How long a removed run can be brought back.
REMOVED_SECONDS = 24 * 3600.0


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

    def add(self, run: Run, device: str = "auto", owner: str = "", name: str = "") -> None:
        """Put a run in: queued for a worker, or finished by the caller itself.

        Args:
            run: as `new_run` or `execute` gives it.
            device: `auto`, `cpu` or `cuda`.
            owner: whose it is; nobody's if empty.
            name: what to call it; its short name if empty.

        Raises:
            InvalidInput: owner or name is too long, or more than a line of text.
        """
        with self._database.write() as c:
            _add(c, run, device, owner, name)

    def add_once(
        self, run: Run, device: str = "auto", owner: str = "", most_waiting: int | None = None
    ) -> StoredRun:
        """Queue a run unless there is one under way that will come to the same; as `add_all_once`.

        Returns:
            The run that was under way, as `under_way` finds it, or the new one.

        Raises:
            InvalidInput: owner is too long, or more than a line of text.
            QueueFull: the owner has as many runs waiting as allowed.
        """
        return self.add_all_once((run,), device, owner, most_waiting)[0]

    def add_all_once(
        self,
        new: Sequence[Run],
        device: str = "auto",
        owner: str = "",
        most_waiting: int | None = None,
    ) -> list[StoredRun]:
        """Queue each run unless there is one under way that will come to the same; all or none.

        However many people ask at once: a recipe is computed once, and each of them is given the
        same run.

        Args:
            new: the runs, each with a fresh id.
            device: `auto`, `cpu` or `cuda`.
            owner: whose those are that are added.
            most_waiting: how many runs of this owner may wait; any number if None.

        Returns:
            For each, the run that was under way, as `under_way` finds it, or the new one.

        Raises:
            InvalidInput: owner is too long, or more than a line of text.
            QueueFull: the owner would have more runs waiting than allowed; none is added.
        """
        rows, added = [], 0
        with self._database.write_alone() as c:
            lock_fact(c, "store", "schema")
            for run in new:
                row = c.execute(under_way(run.model, run.recipe_key, device)).first()
                if row is None:
                    _add(c, run, device, owner)
                    row = c.execute(STORED.where(runs.c.id == run.id)).one()
                    added += 1
                rows.append(row)
            if added and most_waiting is not None:
                _require_room(c, owner, added, most_waiting)
        return [to_stored_run(row) for row in rows]

    def under_way(self, model: str, recipe_key: str, device: str = "auto") -> StoredRun | None:
        """The oldest run of a recipe on a model that is queued or running, if there is one.

        One that was asked to stop, or whose training was stopped early, does not count.

        Args:
            model: the model's id.
            recipe_key: `Recipe.key`.
            device: where it is to run; `auto` takes any.
        """
        with self._database.read() as c:
            row = c.execute(under_way(model, recipe_key, device)).first()
        return None if row is None else to_stored_run(row)

    def get(self, run_id: str) -> StoredRun:
        """The run with that id, or whose id begins so if only one does. None that was removed.

        Raises:
            InvalidInput: there is no such run, or several.
            StoreError: it is damaged, or another version of this program wrote it.
        """
        with self._database.read() as c:
            return to_stored_run(row_of(c, run_id))

    def find(
        self, model: str | None = None, states: tuple[State, ...] = (), *, removed: bool = False
    ) -> list[StoredRun]:
        """Runs, oldest first; of one model and in some states only, if given.

        Args:
            model: the model's id.
            states: all of them if empty.
            removed: those that were removed and can be brought back, in place of the others.

        Raises:
            StoreError: one is damaged, or another version of this program wrote it.
        """
        query = STORED.where(is_removed(removed))
        if model is not None:
            query = query.where(runs.c.model == model)
        if states:
            query = query.where(jobs.c.state.in_(states))
        with self._database.read() as c:
            return [to_stored_run(row) for row in c.execute(query)]

    def rename(self, run_id: str, name: str) -> None:
        """Give a run a name; an empty one gives it back its short name.

        Args:
            run_id: as `get` takes it.
            name: one line of at most 60 characters; the space around it goes.

        Raises:
            InvalidInput: there is no such run, or the name is not of that form.
        """
        self._change(run_id, name=one_line("name", name))

    def pin(self, run_id: str, on: bool) -> None:
        """Pin a run, or no longer.

        Raises:
            InvalidInput: there is no such run.
        """
        self._change(run_id, pinned=on)

    def hide(self, run_id: str, on: bool) -> None:
        """Hide a run, or no longer. It is found as before, and says that it is hidden.

        Raises:
            InvalidInput: there is no such run.
        """
        self._change(run_id, hidden=on)

    def remove(self, run_id: str) -> None:
        """Take a run away, so that only `restore` finds it; what is done for it is cancelled.

        At once, even while it runs: its worker is told so at its next report. When the store is
        opened a day later or more, it is deleted.

        Raises:
            InvalidInput: there is no such run.
        """
        with self._database.write() as c:
            run_id = row_of(c, run_id).id
            cancel_all(c, run_id)
            _set(c, run_id, removed=time.time())

    def restore(self, run_id: str) -> None:
        """Bring back a removed run, as it was; one that was queued or running is cancelled.

        Raises:
            InvalidInput: there is no such run that was removed.
        """
        with self._database.write() as c:
            _set(c, row_of(c, run_id, removed=True).id, removed=None)

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
            _set(c, run.id, body=run.to_json())

    def delete(self, run_id: str) -> None:
        """Remove a run for good, with all that is kept of it and all that is to be done for it."""
        with self._database.write() as c:
            _delete(c, runs.c.id == run_id)

    def delete_removed(self, before: float) -> None:
        """Delete the runs that were removed before a time, in seconds since 1970."""
        old = runs.c.removed < before
        with self._database.read() as c:
            none = c.execute(sa.select(runs.c.id).where(old)).first() is None
        if not none:
            with self._database.write_alone() as c:
                _delete(c, old)

    def _change(self, run_id: str, **values: Any) -> None:
        with self._database.write() as c:
            _set(c, row_of(c, run_id).id, **values)


def _add(c: sa.Connection, run: Run, device: str, owner: str, name: str = "") -> None:
    values = {"id": run.id, "model": run.model, "recipe_key": run.recipe_key, "device": device}
    person = {"owner": one_line("owner", owner), "name": one_line("name", name)}
    body, now = run.to_json(), time.time()
    c.execute(runs.insert().values(**values, **person, created=now, body=body))
    put_job(c, run.id, Kind.RUN, run.state)


def _require_room(c: sa.Connection, owner: str, added: int, most: int) -> None:
    """Refuse what was just added if its owner has too many runs waiting now.

    Raises:
        QueueFull: that is so; the transaction is to be undone.
    """
    query = sa.select(sa.func.count()).select_from(jobs).join(runs, runs.c.id == jobs.c.run)
    of_owner = (jobs.c.kind == Kind.RUN) & (runs.c.owner == one_line("owner", owner))
    count = c.execute(query.where(of_owner, jobs.c.state == State.QUEUED)).scalar_one()
    if count <= most:
        return
    before = count - added
    waiting = f"{before} run{'' if before == 1 else 's'} waiting"
    if added == 1:
        raise QueueFull(f"You have {waiting}; the limit here is {most}. Cancel one or wait.")
    raise QueueFull(f"These are {added} runs, and you have {waiting}; the limit here is {most}.")


def _set(c: sa.Connection, run_id: str, **values: Any) -> None:
    c.execute(runs.update().where(runs.c.id == run_id).values(**values))


def _delete(c: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    # one that is brought back meanwhile stays
    gone = c.execute(sa.select(runs.c.id).where(which).with_for_update()).scalars().all()
    for run_id in gone:
        c.execute(runs.delete().where(runs.c.id == run_id))
        c.execute(jobs.delete().where(jobs.c.run == run_id))
        c.execute(files.delete().where(files.c.run == run_id))
        c.execute(facts.delete().where(documents_of(run_id)))
