"""The commands about training: its curves, and which temperature and alpha."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from compression.catalogue.cards import card
from compression.catalogue.examples import names
from compression.cli.app import Interrupted, app
from compression.cli.execution import do_and_store
from compression.cli.flags import (
    AsJson,
    Device,
    ModelId,
    PresetName,
    RecipeFile,
    RunId,
    Seed,
    StoreUrl,
    recipe_of,
    with_step_flags,
)
from compression.cli.output import print_json, print_table
from compression.cli.tables import training as training_tables
from compression.errors import CompressionError, InvalidInput
from compression.runs.results import Run, State
from compression.runs.store import Store, new_run, open_store
from compression.runs.sweep import (
    Cell,
    best_of,
    clearly_worse,
    grid,
)

_IMAGES = "10000"


@app.command()
def curves(run: RunId, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Show how a run trained: loss, learning rate and validation accuracy by epoch."""
    opened = open_store(store)
    stored = opened.runs.get(run).run
    drawn = opened.curves.get(stored.id)
    if as_json:
        print_json([curve.model_dump(mode="json") for curve in drawn])
        return
    for curve in drawn:
        sentence = stored.recipe.steps[curve.at].sentence()
        print(f"Step {curve.at + 1}: {sentence}" + (f" · {curve.device}" if curve.device else ""))
        print_table(training_tables.curve(curve))
    if not drawn:
        print(f"No curves of run {stored.id}: they are kept of runs that distill.")


@app.command()
@with_step_flags("temperature", "alpha")
def sweep(
    model: ModelId,
    *,
    temperatures: Annotated[
        str, typer.Option(help="Distillation temperatures.", metavar="T,T,...")
    ] = "1,2,4,8",
    alphas: Annotated[
        str, typer.Option(help="Shares of the distillation loss (alpha).", metavar="X,X,...")
    ] = "0.5,0.9,1",
    recipe: RecipeFile = None,
    preset: PresetName = None,
    device: Device = "auto",
    seed: Seed = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Distill with every pair of temperature and alpha, and compare on validation images.

    Each is an ordinary run, put into the store; one that is there already is not run again.
    Learns from 10000 images unless --images says otherwise.
    """
    dataset = card(model).dataset
    if recipe is None and preset not in names() and flags.get("images") is None:
        flags["images"] = _IMAGES
    chosen = recipe_of(model, flags, recipe, seed, preset, images=dataset is not None)
    across, down = _numbers("alphas", alphas), _numbers("temperatures", temperatures)
    cells = grid(chosen, down, across)
    done = _run_cells(open_store(store), model, cells, device, as_json)
    measured = [(cell, run) for cell, run in zip(cells, done, strict=True) if run is not None]
    best = best_of([run for _, run in measured])
    if as_json:
        print_json(_document(model, measured, best))
        return
    print(f"Top-1 accuracy of {model} on validation images (95 % interval)")
    print_table(training_tables.sweep(list(zip(cells, done, strict=True)), best))
    if best is not None:
        print(verdict(measured, best))


def _numbers(field: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise InvalidInput(field, text, "numbers separated by commas, such as 1,2,4") from None


def _run_cells(
    store: Store, model: str, cells: Sequence[Cell], device: str, quiet: bool
) -> list[Run | None]:
    """The runs of the cells, from the store or done now; None where one could not be done.

    Raises:
        Interrupted: by Ctrl-C.
        CompressionError: no cell could be done.
    """
    done: list[Run | None] = []
    failed: CompressionError | None = None
    for cell in cells:
        try:
            run = taken(store, model, cell, device)
            outcome = "was done before" if run else "done"
            run = run or _do(store, model, cell, device, quiet)
        except KeyboardInterrupt:
            stored = sum(run is not None for run in done)
            raise Interrupted(
                f"stopped; {stored} of {len(cells)} runs are stored and will not be run again"
            ) from None
        except InvalidInput:
            raise
        except CompressionError as error:
            run, failed, outcome = None, error, str(error)
        done.append(run)
        if not quiet:
            print(f"{len(done)} of {len(cells)}: {cell.title}: {outcome}", file=sys.stderr)
    if failed is not None and not any(done):
        raise failed
    return done


def taken(store: Store, model: str, cell: Cell, device: str) -> Run | None:
    """The newest finished run of a cell's recipe that was trained to the end; None if none."""
    for entry in reversed(store.runs.find(model, (State.DONE,))):
        same = entry.run.recipe_key == cell.recipe.key and not entry.run.stopped_early
        if same and device in ("auto", entry.device):
            return entry.run
    return None


def _do(store: Store, model: str, cell: Cell, device: str, quiet: bool) -> Run:
    started = new_run(model, card(model).dataset, cell.recipe, State.RUNNING)
    return do_and_store(store, started, device, quiet)


def verdict(cells: Sequence[tuple[Cell, Run]], best: Run) -> str:
    """Which cells are clearly worse than the best, and which cannot be told from it."""
    title = next(cell.title for cell, run in cells if run.id == best.id)
    others = [(cell, run) for cell, run in cells if run.recipe_key != best.recipe_key]
    worse = [cell.title for cell, run in others if clearly_worse(run, best)]
    overlapping = len(others) - len(worse)
    by = ", by the other half of the validation images" if best.search_top1 is not None else ""
    lines = [f"Best: {title} (run {best.id}){by}."]
    if worse:
        lines.append(f"Clearly worse: {'; '.join(worse)}.")
    if overlapping:
        which = "The others" if worse else "All others"
        lines.append(
            f"{which} ({overlapping}) may be as good: the 95 % intervals of their differences to "
            "the original overlap with the best one's."
        )
    return " ".join(lines)


def _document(model: str, cells: Sequence[tuple[Cell, Run]], best: Run | None) -> dict[str, Any]:
    documents = [
        {
            "temperature": cell.temperature,
            "alpha": cell.alpha,
            "run": run.id,
            "recipe_key": run.recipe_key,
            "top1": run.compressed and run.compressed.top1 and run.compressed.top1.model_dump(),
            "search_top1": run.search_top1 and run.search_top1.model_dump(),
            "delta_top1": run.delta and run.delta.top1 and run.delta.top1.model_dump(),
            "best": best is not None and run.id == best.id,
            "clearly_worse": best is not None and clearly_worse(run, best),
        }
        for cell, run in cells
    ]
    return {"model": model, "best": best.id if best else None, "cells": documents}
