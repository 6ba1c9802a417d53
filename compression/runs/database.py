"""The database under the store: its tables, how it is opened, and transactions on it.

SQLite in WAL mode by default, anything SQLAlchemy can open by URL. Every change is one
transaction, so a process that dies leaves nothing half-written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from compression.errors import StoreError

# Of a name of a run or of an owner.
MOST_CHARACTERS = 60
metadata = sa.MetaData()
# What was asked for and, once it is measured, its figures; then what persons say of it, and when it
# was removed. How far it is, its job says.
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("model", sa.String(120), nullable=False, index=True),
    sa.Column("recipe_key", sa.String(16), nullable=False, index=True),
    sa.Column("device", sa.String(16), nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("name", sa.String(MOST_CHARACTERS), nullable=False, server_default=""),
    sa.Column("owner", sa.String(MOST_CHARACTERS), nullable=False, server_default=""),
    sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("hidden", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("removed", sa.Float, index=True),
)
# One row for everything that is, was or will be done for a run; see `compression.runs.jobs`.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("run", sa.String(32), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("deaths", sa.Integer, nullable=False, default=0),
    sa.Column("owner", sa.String(64)),
    sa.Column("heartbeat", sa.Float),
    sa.Column("cancel", sa.Boolean, nullable=False, default=False),
    sa.Column("saved", sa.Boolean, nullable=False, default=False),
    sa.Column("cut_short", sa.Boolean, nullable=False, default=False),
    sa.Column("progress", sa.Text),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("traceback", sa.Text),
)
facts = sa.Table(
    "facts",
    metadata,
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(160), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
files = sa.Table(
    "files",
    metadata,
    sa.Column("run", sa.String(32), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)


class Database:
    """An open database. Safe to use from several threads and processes at once."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    @property
    def url(self) -> str:
        """Where this is, in the form `open_store` takes; with the password, if there is one."""
        return self.engine.url.render_as_string(hide_password=False)

    @property
    def shown(self) -> str:
        """Where this is, for a person to read: without the password."""
        return self.engine.url.render_as_string(hide_password=True)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction: all that is done in it is stored at its end, or nothing if it raises.

        Raises:
            StoreError: the database cannot be written.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"store: cannot write to {self.shown}: {reason(error)}") from error

    @contextmanager
    def write_alone(self) -> Iterator[sa.Connection]:
        """As `write`, with changes of tables in the transaction too, and no other writer beside.

        On SQLite; others lock what they change by themselves.
        """
        with self.write() as connection:
            if self.engine.dialect.name == "sqlite":
                # Python begins a transaction of its own accord before rows change, not tables
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection to read with.

        Raises:
            StoreError: the database cannot be read.
        """
        try:
            with self.engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"store: cannot read {self.shown}: {reason(error)}") from error


def connect(url: str) -> Database:
    """The database at a URL; nothing is written yet, but for the folder of a new SQLite file.

    Raises:
        StoreError: the URL is not one, or nothing can be opened there.
    """
    try:
        if "\0" in url:
            raise ValueError("it has a NUL byte")
        url.encode()  # drivers fail in ways of their own on what is no text
        parsed = sa.make_url(url)
        engine = _engine(parsed)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise StoreError(
            f"store: got {_masked(url)!r}, allowed: a URL such as sqlite:///runs.sqlite or "
            f"postgresql+psycopg://user@host/name ({reason(error)})"
        ) from None
    except (SQLAlchemyError, OSError, ImportError) as error:
        shown = parsed.render_as_string(hide_password=True)
        raise StoreError(f"store: {shown!r} cannot be opened: {reason(error)}") from None
    return Database(engine)


def _engine(url: sa.URL) -> sa.Engine:
    if not url.drivername.startswith("sqlite"):
        return sa.create_engine(url, pool_pre_ping=True)
    if url.database not in (None, "", ":memory:"):
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url)
    sa.event.listen(engine, "connect", _tune_sqlite)
    return engine


def _masked(url: str) -> str:
    return re.sub(r"(://[^:/@]*:)[^@]*@", r"\1***@", url)


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # WAL lets pages read while a worker writes; a writer waits for another instead of failing.
    for pragma in ("busy_timeout=10000", "journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def reason(error: BaseException) -> str:
    """The first line of what a database driver said."""
    original = getattr(error, "orig", None) or error
    return str(original).strip().split("\n")[0]
