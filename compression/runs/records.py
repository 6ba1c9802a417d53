"""Runs as they are stored, with what is kept of each: its curves and its certificate."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from compression.errors import InvalidInput, StoreError
from compression.recipe.recipe import Recipe
from compression.runs.database import (
    Database,
    facts,
    files,
    put_fact,
    runs,
)
from compression.runs.progress import Curve, Progress
from compression.runs.results import Run, State

MOST_FILE_BYTES = 256 * 1024**2


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
    """A run that has not been measured yet, with a fresh id."""
    return Run(
        id=secrets.token_hex(6),
        state=state,
        model=model,
        dataset=dataset,
        recipe=recipe,
        recipe_key=recipe.key,
        parent_key=recipe.parent.key if recipe.parent else None,
    )


class Entries(Database):
    """The runs in a database, and what is kept of each."""

    # Runs

    def add(self, run: Run, device: str = "auto") -> None:
        """Put a run in: queued for a worker, or finished by the caller itself."""
        now = time.time()
        with self._write() as c:
            c.execute(
                runs.insert().values(
                    id=run.id,
                    state=run.state,
                    model=run.model,
                    recipe_key=run.recipe_key,
                    device=device,
                    created=now,
                    updated=now,
                    attempts=0,
                    cancel=False,
                    body=run.to_json(),
                )
            )

    def get(self, run_id: str) -> StoredRun:
        """The run with that id, or whose id begins so if only one does.

        Raises:
            InvalidInput: there is no such run, or several.
        """
        escaped = run_id.replace("\\", "").replace("%", "").replace("_", "")
        where = runs.c.id.like(f"{escaped}%") if escaped == run_id and run_id else sa.false()
        with self._read() as c:
            rows = c.execute(runs.select().where(where).limit(2)).all()
        if len(rows) != 1:
            what = "one run" if rows else "an id listed by `compression runs`"
            raise InvalidInput("run", run_id, what)
        return to_entry(rows[0])

    def entries(self, model: str | None = None, states: tuple[State, ...] = ()) -> list[StoredRun]:
        """Runs, oldest first; of one model and in some states only, if given."""
        query = runs.select().order_by(runs.c.created, runs.c.id)
        if model is not None:
            query = query.where(runs.c.model == model)
        if states:
            query = query.where(runs.c.state.in_(states))
        with self._read() as c:
            return [to_entry(row) for row in c.execute(query)]

    def revision(self) -> tuple[int, float]:
        """A value that changes whenever any run does: cheap to poll."""
        with self._read() as c:
            row = c.execute(sa.select(sa.func.count(), sa.func.max(runs.c.updated))).one()
        return int(row[0]), float(row[1] or 0)

    def delete(self, run_id: str) -> None:
        """Remove a run for good, with all that is kept of it."""
        with self._write() as c:
            c.execute(runs.delete().where(runs.c.id == run_id))
            c.execute(files.delete().where(files.c.run == run_id))
            c.execute(facts.delete().where(_curves_of(run_id)))
            c.execute(facts.delete().where(_certificate_of(run_id) | passing_facts_of(run_id)))

    # Curves: how a run trained

    def put_curve(self, run_id: str, curve: Curve) -> None:
        """Keep a curve of a run, replacing the one of that step. No run, no curve."""
        name = f"{run_id}:{curve.at}"
        with self._write() as c:
            # it may have been deleted while it runs
            if c.execute(sa.select(runs.c.id).where(runs.c.id == run_id)).first():
                put_fact(c, "curve", name, curve.model_dump(mode="json"))

    def curves(self, run_id: str) -> list[Curve]:
        """The curves of a run, in the order of its steps."""
        with self._read() as c:
            bodies = c.execute(sa.select(facts.c.body).where(_curves_of(run_id))).scalars().all()
        try:
            found = [Curve.model_validate_json(body) for body in bodies]
        except ValidationError as error:
            raise _unreadable(run_id, error) from None
        return sorted(found, key=lambda curve: curve.at)

    # Files: the packed model of a run

    def put_file(self, run_id: str, packed: bytes) -> bool:
        """Keep a run's packed file, replacing the one before. Says whether it did.

        It does not if there is no such run, or the file is larger than `MOST_FILE_BYTES`.
        """
        if len(packed) > MOST_FILE_BYTES:
            return False
        with self._write() as c:
            c.execute(files.delete().where(files.c.run == run_id))
            known = c.execute(sa.select(runs.c.id).where(runs.c.id == run_id)).first() is not None
            if known:
                c.execute(files.insert().values(run=run_id, body=packed))
        return known

    def file(self, run_id: str) -> bytes | None:
        """The packed file of a run, or None if it was not kept."""
        with self._read() as c:
            found = c.execute(sa.select(files.c.body).where(files.c.run == run_id))
            body = found.scalar_one_or_none()
        return None if body is None else bytes(body)


def _curves_of(run_id: str) -> sa.ColumnElement[bool]:
    return (facts.c.kind == "curve") & facts.c.name.startswith(f"{run_id}:", autoescape=True)


def _certificate_of(run_id: str) -> sa.ColumnElement[bool]:
    return (facts.c.kind == "certificate") & (facts.c.name == run_id)


def checkpoint_of(run_id: str) -> sa.ColumnElement[bool]:
    """The fact that a run has saved a checkpoint."""
    return (facts.c.kind == "checkpoint") & (facts.c.name == run_id)


def passing_facts_of(run_id: str) -> sa.ColumnElement[bool]:
    """What is known of a run only until it ends: a checkpoint, and that it has been cut short."""
    return facts.c.kind.in_(("checkpoint", "kept")) & (facts.c.name == run_id)


@lru_cache(maxsize=4096)
def _run_of(body: str) -> Run:
    """A run from its JSON. Pages read the same ones every second, and it never changes."""
    return Run.model_validate_json(body)


def to_entry(row: Any) -> StoredRun:
    """A row of the table of runs as a value.

    Raises:
        StoreError: another version of this program wrote it.
    """
    try:
        return StoredRun(
            run=_run_of(row.body),
            device=row.device,
            created=row.created,
            updated=row.updated,
            attempts=row.attempts,
            cancelling=row.cancel,
            progress=Progress.model_validate_json(row.progress) if row.progress else None,
            owner=row.owner,
            traceback=row.traceback or "",
        )
    except ValidationError as error:
        raise _unreadable(row.id, error) from None


def _unreadable(run_id: str, error: ValidationError) -> StoreError:
    field = ".".join(map(str, error.errors()[0]["loc"]))
    return StoreError(
        f"store: run {run_id} cannot be read (field {field}); "
        "it was written by another version of this program"
    )
