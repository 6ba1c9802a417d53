"""What commands print: tables and JSON on standard output."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from compression.cli import tables
from compression.runs.format import percent
from compression.runs.results import Run


def show_run(run: Run, certificate: Run | None, as_json: bool) -> None:
    """Print one run: its figures, where they were measured, and what there is to say."""
    if as_json:
        print(run.to_json(indent=2))
        return
    print(f"Run {run.id} ({tables.state(run)}) · {run.model}\n{run.recipe.sentence()}")
    if run.compressed:
        print_table(tables.figures(run))
        if run.accounts:
            print_table(tables.accounts(run))
        print(tables.conditions(run))
    if certificate and certificate.compressed:
        print(f"Certified on test images: top-1 {percent(certificate.compressed.top1)}")
    for note in run.notes:
        print(f"- {note}")


def print_json(document: Any) -> None:
    """Print a document."""
    print(json.dumps(document, indent=2))


def print_table(table: Any) -> None:
    """Print a table as wide as the terminal."""
    # A pipe has no width: do not fold a table for it.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
