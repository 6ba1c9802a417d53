"""The commands: what can be had, runs, and their figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from compression.catalogue.cards import card, cards, require_dataset
from compression.catalogue.examples import examples
from compression.catalogue.preset_timings import costs
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
from compression.cli.output import document, print_json, print_table, show_run
from compression.cli.tables import catalogue as catalogue_tables
from compression.cli.tables import runs as run_tables
from compression.recipe.presets import PRESETS, WHOLE, as_flags
from compression.runs.records import require_done
from compression.runs.results import State
from compression.runs.store import new_run, open_store
from compression.runs.stored_run import one_line


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models."""
    catalogue = list(cards().values())
    if as_json:
        print_json([c.model_dump(mode="json", exclude={"weights"}) for c in catalogue])
    else:
        print_table(catalogue_tables.models(catalogue))


@app.command()
def presets(as_json: AsJson = False) -> None:
    """List the presets: what each does, what it sets, and what it costs; and the examples."""
    known, measured, stored = list(PRESETS.values()), costs(), examples()
    if not as_json:
        print_table(catalogue_tables.presets(known))
        print_table(catalogue_tables.whole_recipes(WHOLE.values()))
        print_table(catalogue_tables.costs(known, measured))
        print(catalogue_tables.costs_conditions(measured))
        if stored:
            print_table(catalogue_tables.examples(stored))
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
    name: Annotated[
        str, typer.Option(help="What to call the run; by its recipe if not given.")
    ] = "",
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
    name = one_line("name", name)
    opened = open_store(store)
    started = new_run(model, default, chosen, State.RUNNING)
    done = do_and_store(opened, started, device, as_json, name=name, keeping=True)
    show_run(opened.runs.get(done.id), None, as_json)


@app.command()
def runs(
    *,
    hidden: Annotated[bool, typer.Option("--hidden", help="Hidden ones too.")] = False,
    removed: Annotated[
        bool, typer.Option("--removed", help="Instead, those that can be restored.")
    ] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the runs, oldest first."""
    known = open_store(store).runs.find(removed=removed)
    entries = [entry for entry in known if hidden or removed or not entry.hidden]
    if as_json:
        print_json([document(entry) for entry in entries])
    elif entries:
        print_table(run_tables.runs(entries))
    elif removed:
        print("No run was removed within a day.")
    elif known:
        print("All runs are hidden. List them: compression runs --hidden")
    else:
        print("No runs yet. Start one: compression run fashion-mnist/resnet18 --bits 4")


@app.command()
def show(run: RunId, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Show one run's figures beside the original's."""
    opened = open_store(store)
    entry = opened.runs.get(run)
    show_run(entry, opened.certificates.get(entry.run.id), as_json)


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
    show_run(replace(entry, run=certificate), None, as_json)


@app.command()
def rename(
    run: RunId,
    name: Annotated[str, typer.Argument(help="One line; empty for the name by its recipe.")],
    store: StoreUrl = None,
) -> None:
    """Give a run a name."""
    opened = open_store(store)
    opened.runs.rename(run, name)
    entry = opened.runs.get(run)
    print(f"Run {entry.run.id} is now called: {entry.title}")


@app.command()
def pin(run: RunId, store: StoreUrl = None) -> None:
    """Mark a run as pinned."""
    open_store(store).runs.pin(run, True)


@app.command()
def unpin(run: RunId, store: StoreUrl = None) -> None:
    """Take the mark of `pin` away."""
    open_store(store).runs.pin(run, False)


@app.command()
def hide(run: RunId, store: StoreUrl = None) -> None:
    """Leave a run out of the list of runs."""
    open_store(store).runs.hide(run, True)


@app.command()
def unhide(run: RunId, store: StoreUrl = None) -> None:
    """List a hidden run again."""
    open_store(store).runs.hide(run, False)


@app.command()
def remove(run: RunId, store: StoreUrl = None) -> None:
    """Remove a run; within a day, `compression restore` brings it back."""
    opened = open_store(store)
    entry = opened.runs.get(run)
    opened.runs.remove(entry.run.id)
    print(f"Removed: {entry.title}")
    print(f"Within a day, this brings it back: compression restore {entry.run.id}")


@app.command()
def restore(run: RunId, store: StoreUrl = None) -> None:
    """Bring back a removed run."""
    open_store(store).runs.restore(run)
