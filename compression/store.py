"""Runs and their states in SQL: the one truth shared by pages, workers and the command line.

SQLite in WAL mode by default, anything SQLAlchemy can open by URL. Every change is one
transaction, so a process that dies leaves nothing half-written.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)

from compression.errors import InvalidInput, StoreError
from compression.paths import data_dir
from compression.recipe import Recipe
from compression.run import ACTIVE, Progress, Run, State

SCHEMA_VERSION = 1
MAX_ATTEMPTS = 2

_meta = sa.MetaData()
_runs = sa.Table(
    "runs",
    _meta,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("model", sa.String(120), nullable=False, index=True),
    sa.Column("recipe_key", sa.String(16), nullable=False, index=True),
    sa.Column("device", sa.String(16), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("owner", sa.String(64)),
    sa.Column("heartbeat", sa.Float),
    sa.Column("cancel", sa.Boolean, nullable=False, default=False),
    sa.Column("progress", sa.Text),
    sa.Column("traceback", sa.Text),
    sa.Column("body", sa.Text, nullable=False),
)
_facts = sa.Table(
    "facts",
    _meta,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(160), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class Entry:
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


def default_url() -> str:
    """SQLite file in this person's data folder."""
    return f"sqlite:///{data_dir() / 'runs.sqlite'}"


class Store:
    """An open store. Safe to use from several threads and processes at once."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @property
    def url(self) -> str:
        """Where this store is, in the form `open_store` takes."""
        return self._engine.url.render_as_string(hide_password=False)

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"store: cannot write to {self._shown()}: {_reason(error)}") from error

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"store: cannot read {self._shown()}: {_reason(error)}") from error

    def _shown(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)

    # Runs

    def add(self, run: Run, device: str = "auto") -> None:
        """Put a run in: queued for a worker, or finished by the caller itself."""
        now = time.time()
        with self._write() as c:
            c.execute(
                _runs.insert().values(
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

    def get(self, run_id: str) -> Entry:
        """The run with that id, or whose id begins so if only one does.

        Raises:
            InvalidInput: there is no such run, or several.
        """
        escaped = run_id.replace("\\", "").replace("%", "").replace("_", "")
        where = _runs.c.id.like(f"{escaped}%") if escaped == run_id and run_id else sa.false()
        with self._read() as c:
            rows = c.execute(_runs.select().where(where).limit(2)).all()
        if len(rows) != 1:
            what = "one run" if rows else "an id listed by `compression runs`"
            raise InvalidInput("run", run_id, what)
        return _entry(rows[0])

    def entries(self, model: str | None = None, states: tuple[State, ...] = ()) -> list[Entry]:
        """Runs, oldest first; of one model and in some states only, if given."""
        query = _runs.select().order_by(_runs.c.created, _runs.c.id)
        if model is not None:
            query = query.where(_runs.c.model == model)
        if states:
            query = query.where(_runs.c.state.in_(states))
        with self._read() as c:
            return [_entry(row) for row in c.execute(query)]

    def revision(self) -> tuple[int, float]:
        """A value that changes whenever any run does: cheap to poll."""
        with self._read() as c:
            row = c.execute(sa.select(sa.func.count(), sa.func.max(_runs.c.updated))).one()
        return int(row[0]), float(row[1] or 0)

    def delete(self, run_id: str) -> None:
        """Remove a run for good."""
        with self._write() as c:
            c.execute(_runs.delete().where(_runs.c.id == run_id))

    # The queue

    def claim(self, owner: str) -> Entry | None:
        """Take the oldest queued run for `owner` and mark it running; None if there is none."""
        oldest = _runs.select().where(_runs.c.state == State.QUEUED)
        oldest = oldest.order_by(_runs.c.created, _runs.c.id).limit(1)
        while True:
            with self._read() as c:
                row = c.execute(oldest).one_or_none()
            if row is None:
                return None
            entry = _entry(row)
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
            values |= {"attempts": _runs.c.attempts + 1, "heartbeat": now}
        with self._write() as c:
            done = c.execute(
                _runs.update()
                .where(_runs.c.id == run.id, _runs.c.state == old, *only)
                .values(state=new, body=body, updated=now, progress=None, **values)
            )
        return done.rowcount == 1

    def report(self, run_id: str, progress: Progress, owner: str | None = None) -> bool:
        """Store how far a running run is. True if it has to stop.

        That is: somebody asked for it, or it is no longer running, or no longer `owner`'s.
        """
        now = time.time()
        with self._write() as c:
            done = c.execute(
                _runs.update()
                .where(
                    _runs.c.id == run_id,
                    _runs.c.state == State.RUNNING,
                    *_held_by(owner),
                )
                .values(progress=progress.model_dump_json(), heartbeat=now, updated=now)
            )
            cancel = c.execute(sa.select(_runs.c.cancel).where(_runs.c.id == run_id)).scalar()
        return done.rowcount != 1 or bool(cancel)

    def beat(self, owner: str) -> None:
        """Say that `owner` is alive and still has its running runs."""
        with self._write() as c:
            c.execute(
                _runs.update()
                .where(_runs.c.owner == owner, _runs.c.state == State.RUNNING)
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
                _runs.update()
                .where(_runs.c.id == entry.run.id, _runs.c.state.in_(ACTIVE))
                .values(cancel=True, updated=time.time())
            )
        self._move(entry.run, State.QUEUED, State.CANCELLED)

    def stopped(self, run: Run, owner: str | None = None) -> bool:
        """Mark a running run as cancelled, after it has stopped."""
        return self._move(run, State.RUNNING, State.CANCELLED, only=_held_by(owner))

    def release(self, owner: str) -> None:
        """Give back what `owner` was running, because it is going away in good order."""
        self._requeue(_runs.c.owner == owner)

    def recover(self, silent_seconds: float) -> None:
        """Queue again, once, every running run nobody has spoken for in so many seconds."""
        self._requeue(_runs.c.heartbeat < time.time() - silent_seconds)

    def _requeue(self, which: sa.ColumnElement[bool]) -> None:
        with self._read() as c:
            rows = c.execute(_runs.select().where(_runs.c.state == State.RUNNING, which)).all()
        for row in rows:
            entry = _entry(row)
            # Another process may be doing the same: act only on the attempt that was read.
            only = (which, _runs.c.attempts == entry.attempts)
            if entry.cancelling:
                self._move(entry.run, State.RUNNING, State.CANCELLED, only=only)
            elif entry.attempts < MAX_ATTEMPTS:
                self._move(entry.run, State.RUNNING, State.QUEUED, only=only, owner=None)
            else:
                reason = (
                    f"Interrupted {entry.attempts} times before it could finish; not tried again."
                )
                self._move(entry.run, State.RUNNING, State.FAILED, (reason,), only=only)

    # Facts: small documents kept by name, such as a downloaded model's weight quantiles

    def put_fact(self, kind: str, name: str, body: dict[str, Any]) -> None:
        """Keep a small JSON document, replacing the one of that kind and name."""
        same = (_facts.c.kind == kind) & (_facts.c.name == name)
        text = json.dumps(body)
        with self._write() as c:
            done = c.execute(_facts.update().where(same).values(body=text))
            if done.rowcount == 0:
                # Another process may have put it in meanwhile; then theirs stays.
                with suppress(IntegrityError), c.begin_nested():
                    c.execute(_facts.insert().values(kind=kind, name=name, body=text))

    def fact(self, kind: str, name: str) -> dict[str, Any] | None:
        """The document of that kind and name, or None."""
        query = sa.select(_facts.c.body).where(_facts.c.kind == kind, _facts.c.name == name)
        with self._read() as c:
            body = c.execute(query).scalar_one_or_none()
        return None if body is None else json.loads(body)


def open_store(url: str | None = None) -> Store:
    """Open a store, making it first if it is new.

    Raises:
        StoreError: the URL is not one, or nothing can be opened or written there.
    """
    url = url or default_url()
    try:
        parsed = sa.make_url(url)
        engine = _connect(parsed)
        _create_tables(engine)
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(
            f"store: got {_masked(url)!r}, allowed: a URL such as sqlite:///runs.sqlite or "
            f"postgresql+psycopg://user@host/name ({_reason(error)})"
        ) from None
    except (SQLAlchemyError, OSError, ImportError) as error:
        shown = parsed.render_as_string(hide_password=True)
        raise StoreError(f"store: {shown!r} cannot be opened: {_reason(error)}") from None
    store = Store(engine)
    version = store.fact("store", "schema")
    if version is None:
        store.put_fact("store", "schema", {"version": SCHEMA_VERSION})
    elif version["version"] > SCHEMA_VERSION:
        shown = parsed.render_as_string(hide_password=True)
        raise StoreError(f"store: {shown!r} was written by a newer version of this program")
    return store


def _connect(url: sa.URL) -> sa.Engine:
    if not url.drivername.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True)
    if url.database not in (None, "", ":memory:"):
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url)
    sa.event.listen(engine, "connect", _tune_sqlite)
    return engine


def _create_tables(engine: sa.Engine) -> None:
    try:
        _meta.create_all(engine)
    except SQLAlchemyError:
        # Two processes may make the tables of a new store at once: then they are there by now.
        _meta.create_all(engine)


def _masked(url: str) -> str:
    return re.sub(r"(://[^:/@]*:)[^@]*@", r"\1***@", url)


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # WAL lets pages read while a worker writes; a writer waits for another instead of failing.
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _held_by(owner: str | None) -> tuple[sa.ColumnElement[bool], ...]:
    return () if owner is None else (_runs.c.owner == owner,)


def _entry(row: Any) -> Entry:
    try:
        return Entry(
            run=Run.model_validate_json(row.body),
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
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise StoreError(
            f"store: run {row.id} cannot be read (field {field}); "
            "it was written by another version of this program"
        ) from None


def _reason(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).strip().split("\n")[0]
