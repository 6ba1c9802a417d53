"""What commands print: tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from compression.cli.tables import runs as tables
from compression.runs.format import percent
from compression.runs.results import Run
from compression.runs.stored_run import StoredRun, public_id


def show_run(entry: StoredRun, certificate: Run | None, as_json: bool) -> None:
    """Print one run: its figures, where they were measured, and what there is to say."""
    if as_json:
        print_json(document(entry))
        return
    run = entry.run
    print(f"{entry.title}\nRun {run.id} ({tables.state(entry)}) · {run.model}")
    print(run.recipe.sentence())
    if run.compressed:
        print_table(tables.figures(run))
        if run.accounts:
            print_table(tables.accounts(run))
        print(tables.conditions(run))
    if certificate and certificate.compressed:
        print(f"Certified on test images: top-1 {percent(certificate.compressed.top1)}")
    for note in run.notes:
        print(f"- {note}")


def document(entry: StoredRun) -> dict[str, Any]:
    """A run as JSON, with what persons say of it; its owner by their public id."""
    said = {name: getattr(entry, name) for name in ("name", "title", "pinned", "hidden", "removed")}
    owner = public_id(entry.owner) if entry.owner else ""
    return {**json.loads(entry.run.to_json()), **said, "owner": owner}


def print_json(value: Any) -> None:
    """Print a document."""
    print(json.dumps(value, indent=2))


def print_table(table: Any) -> None:
    """Print a table as wide as the terminal."""
    # A pipe has no width: do not fold a table for it.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
