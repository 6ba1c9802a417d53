"""The database under the store: its tables, how it is opened, and small documents kept by name.

SQLite in WAL mode by default, anything SQLAlchemy can open by URL. Every change is one
transaction, so a process that dies leaves nothing half-written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)

from compression.errors import StoreError

SCHEMA_VERSION = 1

_meta = sa.MetaData()
runs = sa.Table(
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
facts = sa.Table(
    "facts",
    _meta,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(160), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
files = sa.Table(
    "files",
    _meta,
    sa.Column("run", sa.String(32), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)


class Database:
    """An open database. Safe to use from several threads and processes at once."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @property
    def url(self) -> str:
        """Where this is, in the form `open_store` takes."""
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

    # Facts: small documents kept by name, such as a downloaded model's weight quantiles

    def put_fact(self, kind: str, name: str, body: dict[str, Any]) -> None:
        """Keep a small JSON document, replacing the one of that kind and name."""
        with self._write() as c:
            put_fact(c, kind, name, body)

    def add_fact(self, kind: str, name: str, body: dict[str, Any]) -> bool:
        """Keep a document unless there is one of that kind and name. Says whether it did."""
        with self._write() as c:
            return _insert_fact(c, kind, name, json.dumps(body))

    def fact(self, kind: str, name: str) -> dict[str, Any] | None:
        """The document of that kind and name, or None."""
        query = sa.select(facts.c.body).where(facts.c.kind == kind, facts.c.name == name)
        with self._read() as c:
            body = c.execute(query).scalar_one_or_none()
        return None if body is None else json.loads(body)


def put_fact(c: sa.Connection, kind: str, name: str, body: dict[str, Any]) -> None:
    """As `Database.put_fact`, within a transaction."""
    same = (facts.c.kind == kind) & (facts.c.name == name)
    text = json.dumps(body)
    if c.execute(facts.update().where(same).values(body=text)).rowcount == 0:
        # Another process may have put it in meanwhile; then theirs stays.
        _insert_fact(c, kind, name, text)


def _insert_fact(c: sa.Connection, kind: str, name: str, text: str) -> bool:
    try:
        with c.begin_nested():
            c.execute(facts.insert().values(kind=kind, name=name, body=text))
    except IntegrityError:
        return False
    return True


def open_database(url: str) -> sa.Engine:
    """Open a database, making its tables first if it is new.

    Raises:
        StoreError: the URL is not one, nothing can be opened or written there, or it was written
            by a newer version of this program.
    """
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
    database = Database(engine)
    version = database.fact("store", "schema")
    if version is None:
        database.put_fact("store", "schema", {"version": SCHEMA_VERSION})
    elif version["version"] > SCHEMA_VERSION:
        shown = parsed.render_as_string(hide_password=True)
        raise StoreError(f"store: {shown!r} was written by a newer version of this program")
    return engine


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


def _reason(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).strip().split("\n")[0]
