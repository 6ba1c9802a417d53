"""A store of an earlier version becomes one of this version when it is opened."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from compression.errors import StoreError
from compression.runs.database import Database, facts, jobs, metadata, runs
from compression.runs.documents import parse_fact, put_fact
from compression.runs.jobs import Kind
from compression.runs.results import State

SCHEMA_VERSION = 3


def bring_up_to_date(database: Database) -> None:
    """Make the tables of a new store, or change those of an older one, in one transaction.

    Raises:
        StoreError: it was written by a newer version of this program, or cannot be written.
    """
    with database.read() as c:
        tables = set(sa.inspect(c).get_table_names())
        if tables.issuperset(metadata.tables) and _version(c, database) == SCHEMA_VERSION:
            return
    with database.write_alone() as c:
        # another process may have done it meanwhile, or waits here until it is done
        version = _version(c, database, lock=True)
        for step in range(version, SCHEMA_VERSION) if version else ():
            _STEPS[step](c)
        metadata.create_all(c)
        put_fact(c, "store", "schema", f'{{"version": {SCHEMA_VERSION}}}')


def _version(c: sa.Connection, database: Database, *, lock: bool = False) -> int:
    """Which version wrote the tables; 0 where there are none."""
    if not sa.inspect(c).has_table(facts.name):
        return 0
    query = sa.select(facts.c.body).where(facts.c.kind == "store", facts.c.name == "schema")
    text = c.execute(query.with_for_update() if lock else query).scalar_one_or_none()
    if text is None:
        return 0 if sa.inspect(c).has_table(jobs.name) else 1
    version = parse_fact("store", "schema", text).get("version")
    if not isinstance(version, int) or version < 1:
        raise StoreError(f"store: {database.shown!r} does not say which version wrote it")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"store: {database.shown!r} was written by a newer version of this program; "
            "update the program to open it"
        )
    return version


_runs_1 = sa.table(
    "runs_1",
    *map(sa.column, ("id", "state", "model", "recipe_key", "device", "created", "updated")),
    *map(sa.column, ("attempts", "owner", "heartbeat", "cancel", "progress", "traceback", "body")),
)


def _from_1(c: sa.Connection) -> None:
    """The state of a run moves to its job; requests for latency reports and what was known of a
    run until it ends, documents before, become jobs and parts of them."""
    for index in sa.inspect(c).get_indexes(runs.name):
        c.exec_driver_sql(f"DROP INDEX {index['name']}")
    c.exec_driver_sql(f"ALTER TABLE {runs.name} RENAME TO {_runs_1.name}")
    metadata.create_all(c)
    kept = ("id", "model", "recipe_key", "device", "created", "body")
    c.execute(runs.insert().from_select(kept, sa.select(*(_runs_1.c[name] for name in kept))))
    same = ("state", "created", "updated", "attempts", "owner", "heartbeat", "cancel")
    values = {
        "kind": sa.literal(Kind.RUN.value),
        "run": _runs_1.c.id,
        **{name: _runs_1.c[name] for name in (*same, "progress", "traceback")},
        # what stopped a run before need not have been its own worker's death
        "deaths": sa.literal(0),
        "saved": _was_noted("checkpoint"),
        "cut_short": _was_noted("kept"),
        "message": sa.literal(""),
    }
    c.execute(jobs.insert().from_select(list(values), sa.select(*values.values())))
    _requests_from_1(c)
    gone = ("checkpoint", "kept", "latency-wanted")
    c.execute(facts.delete().where(facts.c.kind.in_(gone)))
    c.exec_driver_sql(f"DROP TABLE {_runs_1.name}")


def _was_noted(kind: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(facts.c.kind == kind, facts.c.name == _runs_1.c.id)


def _requests_from_1(c: sa.Connection) -> None:
    known = sa.select(_runs_1.c.id)
    query = sa.select(facts.c.name, facts.c.body).where(facts.c.kind == "latency-wanted")
    for run_id, text in c.execute(query.where(facts.c.name.in_(known))).all():
        request = parse_fact("latency-wanted", run_id, text)
        since, state = float(request["time"]), State(request["state"])
        running = state is State.RUNNING
        c.execute(
            jobs.insert().values(
                kind=Kind.LATENCY,
                run=run_id,
                state=state,
                created=since,
                updated=since,
                attempts=int(running),
                owner=request["owner"],
                heartbeat=since if running else None,
                message=request["message"] if state is State.FAILED else "",
            )
        )


def _from_2(c: sa.Connection) -> None:
    """Runs get what persons say of them: a name, an owner, whether it is pinned, hidden, removed.

    A store of version 1 has these columns by now, for its table of runs was just made.
    """
    there = {column["name"] for column in sa.inspect(c).get_columns(runs.name)}
    for column in (column for column in runs.columns if column.name not in there):
        declared = sa.schema.CreateColumn(column).compile(dialect=c.dialect)
        c.exec_driver_sql(f"ALTER TABLE {runs.name} ADD COLUMN {declared}")
    for index in runs.indexes:
        index.create(c, checkfirst=True)


_STEPS: dict[int, Callable[[sa.Connection], None]] = {1: _from_1, 2: _from_2}
