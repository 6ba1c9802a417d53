"""The button that queues the grid of temperatures."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from compression.catalogue.cards import Card
from compression.recipe.recipe import Recipe
from compression.runs.store import StoredRun
from dashboard.numbers import temperature_grid
from dashboard.state import actions
from dashboard.state.form import Form, to_recipe


def missing(form: Form, entries: Sequence[StoredRun]) -> tuple[Recipe, ...]:
    """The runs of the grid that are neither finished nor under way."""
    known = {e.run.recipe_key for e in entries}
    recipes = temperature_grid.grid_recipes(to_recipe({**form, "distill": True}))
    return tuple(r for r in recipes if r.key not in known)


def button(card: Card, form: Form, entries: Sequence[StoredRun], refused: str | None) -> None:
    """Offer the grid, with the number of runs it takes."""
    label = "Which temperature?"
    left: tuple[Recipe, ...] = ()
    if form["loss"] == "logits":
        why = "Logit matching has no temperature."
    else:
        left = missing(form, entries)
        why = refused or ("" if left else "Every run of this grid exists already.")
    count = "1 run" if len(left) == 1 else f"{len(left)} runs"
    if st.button(
        label if why else f"{label} Try it in {count}",
        key="try_temperatures",
        icon=":material/thermostat:",
        width="stretch",
        disabled=bool(why),
        help=why or _described(form),
    ):
        actions.queue_all(card, left, form["device"])
        st.rerun()


def _described(form: Form) -> str:
    tried = ", ".join(f"{t:g}" for t in temperature_grid.TEMPERATURES)
    weights = ", ".join(f"{a:g}" for a in temperature_grid.ALPHAS)
    on = "" if form["distill"] else ", with distillation on"
    return (
        f"Every temperature of {tried} with every distillation weight (alpha) of {weights}, "
        f"each for {temperature_grid.EPOCHS} epoch of {temperature_grid.IMAGES:,} images; "
        f"everything else as set here{on}. "
        "Existing runs are not repeated."
    )
