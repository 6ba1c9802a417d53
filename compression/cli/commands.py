"""The commands: what can be had, runs, and their figures."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from compression.catalogue.cards import card, cards, require_dataset
from compression.catalogue.examples import examples
from compression.catalogue.preset_timings import costs
from compression.cli import tables
from compression.cli.app import app
from compression.cli.execution import certify_here, do_and_store
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
from compression.cli.output import print_json, print_table, show_run
from compression.recipe.presets import PRESETS, WHOLE, as_flags
from compression.runs.records import require_done
from compression.runs.results import State
from compression.runs.store import new_run, open_store


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models."""
    catalogue = list(cards().values())
    if as_json:
        print_json([c.model_dump(mode="json", exclude={"weights"}) for c in catalogue])
    else:
        print_table(tables.models(catalogue))


@app.command()
def presets(as_json: AsJson = False) -> None:
    """List the presets: what each does, what it sets, and what it costs; and the examples."""
    known, measured, stored = list(PRESETS.values()), costs(), examples()
    if not as_json:
        print_table(tables.presets(known))
        print_table(tables.whole_recipes(WHOLE.values()))
        print_table(tables.costs(known, measured))
        print(tables.costs_conditions(measured))
        if stored:
            print_table(tables.examples(stored))
        return
    document = [
        {
            **{k: getattr(p, k) for k in ("name", "title", "description", "calibrates", "values")},
            "flags": as_flags(p),
            "seconds": {m: measured.of(m, p.name) for m, c in cards().items() if c.bundled},
        }
        for p in known
    ]
    about = {"machine": measured.machine, "command": measured.command}
    print_json(
        {
            "presets": document,
            "whole": [
                {k: getattr(w, k) for k in ("name", "title", "description", "steps")}
                for w in WHOLE.values()
            ],
            "measured": about if measured.seconds else None,
            "examples": [e.model_dump(mode="json", exclude={"curves"}) for e in stored],
        }
    )


@app.command()
@with_step_flags()
def run(
    model: ModelId,
    *,
    dataset: Annotated[str | None, typer.Option(help="The model's own if not given.")] = None,
    recipe: RecipeFile = None,
    preset: PresetName = None,
    device: Device = "auto",
    seed: Seed = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
    **flags: Any,
) -> None:
    """Compress a model and measure it on validation images.

    Ctrl-C while it trains keeps the best so far; a second one ends at once.
    """
    default = card(model).dataset
    chosen = recipe_of(model, flags, recipe, seed, preset, images=default is not None)
    require_dataset(model, dataset, default)
    opened = open_store(store)
    started = new_run(model, default, chosen, State.RUNNING)
    show_run(do_and_store(opened, started, device, as_json, keeping=True), None, as_json)


@app.command()
def runs(store: StoreUrl = None, as_json: AsJson = False) -> None:
    """List the runs, oldest first."""
    entries = open_store(store).runs.find()
    if as_json:
        print_json([json.loads(e.run.to_json()) for e in entries])
    elif entries:
        print_table(tables.runs(entries))
    else:
        print("No runs yet. Start one: compression run fashion-mnist/resnet18 --bits 4")


@app.command()
def show(run: RunId, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Show one run's figures beside the original's."""
    opened = open_store(store)
    stored = opened.runs.get(run).run
    show_run(stored, opened.certificates.get(stored.id), as_json)


@app.command()
def certify(run: RunId, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Measure a finished run's file on the test images: once, then kept."""
    opened = open_store(store)
    entry = opened.runs.get(run)
    require_done(entry.run)
    certificate = opened.certificates.get(entry.run.id)
    if certificate is None:
        certificate = certify_here(opened, entry.run, entry.device, as_json)
        opened.certificates.put(entry.run.id, certificate)
    show_run(certificate, None, as_json)
