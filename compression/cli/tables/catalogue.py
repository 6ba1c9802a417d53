"""Models, presets and examples as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table

from compression.catalogue.cards import Card, cards
from compression.catalogue.examples import Example
from compression.catalogue.preset_timings import Costs
from compression.recipe.presets import Preset, WholeRecipe, as_flags
from compression.recipe.recipe import Recipe, parse
from compression.runs.format import (
    NONE,
    count,
    digits,
    percent,
    ratio,
    size,
)


def models(catalogue: Iterable[Card]) -> Table:
    """One line a model."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    for title in ("parameters", "float32 size", "test top-1 (95 % interval)"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    for card in catalogue:
        published = f"{percent(card.published_top1)} published" if card.published_top1 else NONE
        table.add_row(
            card.id,
            count(card.parameters),
            size(card.dense_bytes),
            percent(card.test_top1) if card.test_top1 else published,
            "bundled" if card.bundled else "downloaded when first used",
        )
    return table


NOT_MEASURED = "not measured"


def presets(known: Iterable[Preset]) -> Table:
    """One line a preset: what it does, and the flags it stands for."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("preset", no_wrap=True)
    table.add_column("what it does")
    table.add_column("sets")
    for preset in known:
        lines = [f"{step}: {' '.join(flags)}" for step, flags in as_flags(preset).items()]
        table.add_row(preset.name, preset.description, "\n".join(lines))
    return table


def whole_recipes(known: Iterable[WholeRecipe]) -> Table:
    """One line a whole recipe: what it does, and its steps in a sentence."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("preset", no_wrap=True)
    table.add_column("what it does")
    table.add_column("recipe")
    for whole in known:
        recipe = parse(Recipe, {"steps": whole.steps})
        table.add_row(whole.name, whole.description, recipe.sentence())
    return table


def costs(known: Iterable[Preset], measured: Costs) -> Table:
    """One line a bundled model: seconds that each preset takes."""
    names = [preset.name for preset in known]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    for name in names:
        table.add_column(f"{name}, s", justify="right", no_wrap=True)
    for model in (m for m, c in cards().items() if c.bundled):
        taken = [measured.of(model, name) for name in names]
        table.add_row(model, *(NOT_MEASURED if s is None else digits(s) for s in taken))
    return table


def costs_conditions(measured: Costs) -> str:
    """How and where the seconds were measured, in one line."""
    if not measured.seconds:
        return "Seconds are filled in by: python -m tests.benchmarks.costs --write"
    return f"Seconds of {measured.command}, on {measured.machine}."


def examples(stored: Iterable[Example]) -> Table:
    """One line an example: what it shows, and what its run reached on validation images."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("example", no_wrap=True)
    table.add_column("what it is")
    for title in ("model", "smaller", "top-1 (95 % interval)"):
        table.add_column(title, justify="right", no_wrap=True)
    for example in stored:
        run = example.run
        table.add_row(
            example.name,
            example.description,
            run.model,
            ratio(run.delta.size_ratio) if run.delta else NONE,
            percent(run.compressed.top1) if run.compressed else NONE,
        )
    return table
