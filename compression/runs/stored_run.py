"""A run as it is stored, with how far its job is, and what persons say of it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from compression.errors import InvalidInput
from compression.recipe.short_name import short_name
from compression.runs.database import MOST_CHARACTERS, jobs, runs
from compression.runs.documents import parse_document
from compression.runs.jobs import Kind, to_job
from compression.runs.progress import Progress
from compression.runs.results import ACTIVE, Run

# Control characters, halves of characters, and what begins a new line.
_NOT_IN_A_LINE = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True)
class StoredRun:
    """A run as stored, with what only the store knows about it. Times are seconds since 1970.

    `runner` is the runner that has it, `traceback` why it failed, for whoever mends it. `name` is
    what a person called it, `owner` whose it is; both may be empty. `removed` is when it was
    removed, if it was.
    """

    run: Run
    device: str
    created: float
    updated: float
    attempts: int
    cancelling: bool
    progress: Progress | None
    runner: str | None = None
    traceback: str = ""
    name: str = ""
    owner: str = ""
    pinned: bool = False
    hidden: bool = False
    removed: float | None = None

    @property
    def title(self) -> str:
        """What to call the run: the name it was given, or else the short one of its recipe."""
        return self.name or short_name(self.run.recipe, self.run.dataset is not None)


def one_line(field: str, text: str) -> str:
    """A name of a run or of an owner, without the space around it.

    Args:
        field: what it is called in messages.
        text: as a person wrote it; it may be empty.

    Raises:
        InvalidInput: it is too long, or more than a line of text.
    """
    line = text.strip()
    if len(line) > MOST_CHARACTERS or _NOT_IN_A_LINE & set(map(unicodedata.category, line)):
        raise InvalidInput(field, text, f"one line of at most {MOST_CHARACTERS} characters")
    return line


@lru_cache(maxsize=4096)
def public_id(owner: str) -> str:
    """What others may know an owner by: whoever knows the id itself can act as them."""
    return hashlib.sha256(owner.encode()).hexdigest()[:8]


_KEPT = (runs.c.id, runs.c.device, runs.c.body, runs.c.name, runs.c.pinned, runs.c.hidden)
# Each run with its job; both have an owner, the job's being a runner.
STORED = (
    sa.select(jobs, *_KEPT, runs.c.removed, runs.c.owner.label("person"))
    .join_from(runs, jobs, jobs.c.run == runs.c.id)
    .where(jobs.c.kind == Kind.RUN)
    .order_by(runs.c.created, runs.c.id)
)


def is_removed(removed: bool) -> sa.ColumnElement[bool]:
    """The runs that were removed, or those that were not."""
    return runs.c.removed.is_not(None) if removed else runs.c.removed.is_(None)


def row_of(c: sa.Connection, run_id: str, *, removed: bool = False) -> Any:
    """The row of `STORED` whose id that is, or begins so if only one does.

    Raises:
        InvalidInput: there is no such run, or several.
    """
    rows: list[Any] = []
    if re.fullmatch("[0-9A-Za-z-]+", run_id):
        which = runs.c.id.like(f"{run_id}%") & is_removed(removed)
        rows = list(c.execute(STORED.where(which).limit(2)))
    if len(rows) != 1:
        listed = f"`compression runs{' --removed' if removed else ''}`"
        what = "one run" if rows else f"an id listed by {listed}"
        raise InvalidInput("run", run_id, what)
    return rows[0]


def under_way(model: str, recipe_key: str, device: str) -> sa.Select[Any]:
    """The row of `STORED`, or none, of the oldest run that will end as these ask for."""
    to_the_end = jobs.c.state.in_(ACTIVE) & ~jobs.c.cancel & ~jobs.c.cut_short & is_removed(False)
    query = STORED.where(runs.c.model == model, runs.c.recipe_key == recipe_key, to_the_end)
    return (query if device == "auto" else query.where(runs.c.device == device)).limit(1)


@lru_cache(maxsize=4096)
def _parse_run(run_id: str, body: str) -> Run:
    # pages read the same runs every second
    return parse_document(Run, body, f"run {run_id}")


def to_stored_run(row: Any) -> StoredRun:
    """A row of `STORED` as a value.

    Raises:
        StoreError: it is damaged, or another version of this program wrote it.
    """
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
        runner=job.owner,
        traceback=job.traceback,
        name=row.name,
        owner=row.person,
        pinned=row.pinned,
        hidden=row.hidden,
        removed=row.removed,
    )
