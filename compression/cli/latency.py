"""The command about latency: a run in everything that can run it here, and layer by layer."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Annotated

import typer

from compression.cli.app import app
from compression.cli.execution import progress_bar, remeasure_here
from compression.cli.flags import AsJson, RunId, StoreUrl
from compression.cli.output import print_json, print_table, show_run
from compression.cli.tables import latency as latency_tables
from compression.errors import InvalidInput
from compression.runs.progress import Progress
from compression.runs.results import LatencyReport, Run
from compression.runs.store import open_store

_LIST = "by commas"


@app.command()
def latency(
    run: RunId,
    *,
    backends: Annotated[
        str | None, typer.Option(help=f"What to run it in, {_LIST}; all that is here if not given.")
    ] = None,
    batches: Annotated[
        str | None, typer.Option(help=f"Images in a call, {_LIST}; 1,8 if not given.")
    ] = None,
    threads: Annotated[
        str | None, typer.Option(help=f"Threads, {_LIST}; 1 and all cores if not given.")
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="No report: measure the latency that the run has again."),
    ] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Time a finished run against the original: backends, batch sizes, threads, layers.

    It takes a minute or more; the report is kept with the run. With --again, the run's own figures
    and notes on latency are replaced instead, as after a measurement on a busy machine.
    """
    opened = open_store(store)
    entry = opened.runs.get(run)
    if again:
        for field, given in (("backends", backends), ("batches", batches), ("threads", threads)):
            if given is not None:
                raise InvalidInput(field, given, "none with --again, which measures as the run did")
        remeasure_here(opened, entry.run, entry.device, as_json)
        show_run(opened.runs.get(entry.run.id), opened.certificates.get(entry.run.id), as_json)
        return
    numbers = _numbers("batches", batches), _numbers("threads", threads)
    names = None if backends is None else _parts(backends)
    with contextlib.redirect_stdout(sys.stderr):
        # torch is imported here, so that everything else answers at once
        from compression.jobs.packed_source import source_of
        from compression.measure.latency_report import plan, report
        from compression.models.placement import resolve_device

        device = resolve_device(entry.device)
        wanted = plan(
            entry.run.recipe.quantizes,
            device,
            backends=names,
            batches=numbers[0],
            threads=numbers[1],
        )
        with progress_bar(as_json) as draw:
            source = source_of(opened, entry.run, entry.device, draw)
            timed = report(
                entry.run,
                source.target,
                source.model(),
                wanted,
                tell=lambda stage, done: draw(Progress(stage=stage, fraction=min(1.0, done))),
            )
        timed = timed.model_copy(update={"notes": (*source.notes, *timed.notes)})
    opened.latency.put(entry.run.id, timed)
    _show(entry.run, timed, as_json)


def _parts(given: str) -> list[str]:
    return [part.strip() for part in given.split(",") if part.strip()]


def _numbers(field: str, given: str | None) -> list[int] | None:
    if given is None:
        return None
    parts = _parts(given)
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidInput(field, given, f"whole numbers, {_LIST}, such as 1,8")
    return [int(part) for part in parts]


def _show(run: Run, timed: LatencyReport, as_json: bool) -> None:
    if as_json:
        print_json(json.loads(timed.model_dump_json()))
        return
    print(f"Run {run.id} · {run.model}\n{run.recipe.sentence()}")
    for title, table in latency_tables.of(timed).items():
        print(f"\n{title}")
        print_table(table)
    for line in latency_tables.sentences(timed):
        print(f"- {line}")
