"""What is kept beside the runs: facts by name, documents and curves of a run, packed models."""

from __future__ import annotations

import json
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import IntegrityError

from compression.errors import StoreError
from compression.runs.database import Database, facts, files, runs
from compression.runs.progress import Curve

MOST_FILE_BYTES = 256 * 1024**2
Document = TypeVar("Document", bound=BaseModel)


class Facts:
    """Small JSON documents by kind and name, such as a downloaded model's weight quantiles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, kind: str, name: str, body: dict[str, Any]) -> None:
        """Keep a document, replacing the one of that kind and name."""
        with self._database.write() as c:
            put_fact(c, kind, name, json.dumps(body))

    def add(self, kind: str, name: str, body: dict[str, Any]) -> bool:
        """Keep a document unless there is one of that kind and name. Says whether it did."""
        with self._database.write() as c:
            return _insert_fact(c, kind, name, json.dumps(body))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """The document of that kind and name, or None.

        Raises:
            StoreError: it is damaged.
        """
        with self._database.read() as c:
            text = _fact(c, kind, name)
        return None if text is None else parse_fact(kind, name, text)

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Every document of a kind, by name.

        Raises:
            StoreError: one is damaged.
        """
        query = sa.select(facts.c.name, facts.c.body).where(facts.c.kind == kind)
        with self._database.read() as c:
            rows = c.execute(query).all()
        return {name: parse_fact(kind, name, body) for name, body in rows}


class Documents(Generic[Document]):
    """One kind of document that a run has at most one of, such as its certificate."""

    def __init__(self, database: Database, kind: str, type_: type[Document], title: str) -> None:
        self._database, self._kind, self._type, self._title = database, kind, type_, title

    def put(self, run_id: str, document: Document) -> None:
        """Keep a run's document, replacing the one before. No run, no document."""
        with self._database.write() as c:
            self.put_within(c, run_id, document)

    def put_within(self, c: sa.Connection, run_id: str, document: Document) -> None:
        """As `put`, within a transaction."""
        if has_run(c, run_id):  # it may have been deleted while this was made
            put_fact(c, self._kind, run_id, document.model_dump_json())

    def get(self, run_id: str) -> Document | None:
        """The document of a run, or None.

        Raises:
            StoreError: it is damaged, or another version of this program wrote it.
        """
        with self._database.read() as c:
            text = _fact(c, self._kind, run_id)
        if text is None:
            return None
        return parse_document(self._type, text, f"the {self._title} of run {run_id}")


class Curves:
    """How runs trained: a curve for each step that trains."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, run_id: str, curve: Curve) -> None:
        """Keep a curve of a run, replacing the one of that step. No run, no curve."""
        with self._database.write() as c:
            if has_run(c, run_id):
                put_fact(c, "curve", f"{run_id}:{curve.at}", curve.model_dump_json())

    def get(self, run_id: str) -> list[Curve]:
        """The curves of a run, in the order of its steps.

        Raises:
            StoreError: one is damaged, or another version of this program wrote it.
        """
        with self._database.read() as c:
            bodies = c.execute(sa.select(facts.c.body).where(curves_of(run_id))).scalars().all()
        curves = [parse_document(Curve, body, f"a curve of run {run_id}") for body in bodies]
        return sorted(curves, key=lambda curve: curve.at)


class Files:
    """The packed models of runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, run_id: str, packed: bytes) -> bool:
        """Keep a run's packed file, replacing the one before. Says whether it did.

        It does not if there is no such run, or the file is larger than `MOST_FILE_BYTES`.
        """
        if len(packed) > MOST_FILE_BYTES:
            return False
        with self._database.write() as c:
            c.execute(files.delete().where(files.c.run == run_id))
            known = has_run(c, run_id)
            if known:
                c.execute(files.insert().values(run=run_id, body=packed))
        return known

    def has(self, run_id: str) -> bool:
        """Whether a run's file was kept, without reading it."""
        query = sa.select(files.c.run).where(files.c.run == run_id)
        with self._database.read() as c:
            return c.execute(query).first() is not None

    def get(self, run_id: str) -> bytes | None:
        """The packed file of a run, or None if it was not kept."""
        with self._database.read() as c:
            query = sa.select(files.c.body).where(files.c.run == run_id)
            body = c.execute(query).scalar_one_or_none()
        return None if body is None else bytes(body)


def has_run(c: sa.Connection, run_id: str) -> bool:
    """Whether there is a run of that id."""
    return c.execute(sa.select(runs.c.id).where(runs.c.id == run_id)).first() is not None


def documents_of(run_id: str) -> sa.ColumnElement[bool]:
    """The facts that go when a run is deleted."""
    kinds = facts.c.kind.in_(("certificate", "latency"))
    return (kinds & (facts.c.name == run_id)) | curves_of(run_id)


def curves_of(run_id: str) -> sa.ColumnElement[bool]:
    """The facts that are a run's curves."""
    return (facts.c.kind == "curve") & facts.c.name.startswith(f"{run_id}:", autoescape=True)


def parse_document(type_: type[Document], text: str, title: str) -> Document:
    """A stored document as a value; `title` says what it is.

    Raises:
        StoreError: it is damaged, or another version of this program wrote it.
    """
    try:
        return type_.model_validate_json(text)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        where = f" (field {field})" if field else ""
        raise StoreError(
            f"store: {title} cannot be read{where}; it is damaged or was written by another "
            "version of this program"
        ) from None


def parse_fact(kind: str, name: str, text: str) -> dict[str, Any]:
    """The body of a fact.

    Raises:
        StoreError: it is no JSON object.
    """
    try:
        body = json.loads(text)
    except (TypeError, ValueError):
        body = None
    if not isinstance(body, dict):
        raise StoreError(f"store: the document {kind}/{name} cannot be read; it is damaged")
    return body


def put_fact(c: sa.Connection, kind: str, name: str, text: str) -> None:
    """Keep a document within a transaction, replacing the one of that kind and name."""
    same = (facts.c.kind == kind) & (facts.c.name == name)
    if c.execute(facts.update().where(same).values(body=text)).rowcount == 0:
        # Another process may have put it in meanwhile; then theirs stays.
        _insert_fact(c, kind, name, text)


def lock_fact(c: sa.Connection, kind: str, name: str) -> None:
    """Wait within a transaction until nobody else has locked that document; locked to its end."""
    query = sa.select(facts.c.body).where(facts.c.kind == kind, facts.c.name == name)
    c.execute(query.with_for_update()).all()


def _insert_fact(c: sa.Connection, kind: str, name: str, text: str) -> bool:
    try:
        with c.begin_nested():
            c.execute(facts.insert().values(kind=kind, name=name, body=text))
    except IntegrityError:
        return False
    return True


def _fact(c: sa.Connection, kind: str, name: str) -> str | None:
    query = sa.select(facts.c.body).where(facts.c.kind == kind, facts.c.name == name)
    text: str | None = c.execute(query).scalar_one_or_none()
    return text
