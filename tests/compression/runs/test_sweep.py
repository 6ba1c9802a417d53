"""Temperature x alpha: the recipes of the cells, the best, and what can be told from it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.cli.training import taken, verdict
from compression.errors import InvalidInput
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune
from compression.runs.results import Run, State
from compression.runs.statistics import Interval
from compression.runs.store import Store, new_run
from compression.runs.sweep import (
    Cell,
    best_of,
    clearly_worse,
    grid,
)
from tests.compression.example_runs import finished

BASE = Recipe(steps=(Prune(sparsity=0.9), Distill(epochs=2, images=500)), seed=7)


@given(
    st.lists(st.floats(0.5, 50), min_size=1, max_size=4, unique=True),
    st.lists(st.floats(0.01, 1), min_size=1, max_size=4, unique=True),
)
def test_cells_differ_in_temperature_and_alpha_only(
    temperatures: list[float], alphas: list[float]
) -> None:
    cells = grid(BASE, temperatures, alphas)
    assert [(c.temperature, c.alpha) for c in cells] == [
        (t, a) for t in temperatures for a in alphas
    ]
    for cell in cells:
        step = cell.recipe.steps[1]
        assert step == BASE.steps[1].model_copy(
            update={"temperature": cell.temperature, "alpha": cell.alpha}
        )
        assert (cell.recipe.steps[0], cell.recipe.seed) == (BASE.steps[0], 7)
    assert len({c.recipe.key for c in cells}) == len(cells)


def test_where_the_original_takes_no_part_one_run_serves_all_temperatures() -> None:
    cells = grid(BASE, (1.0, 2.0, 4.0), (0.0, 0.5))
    assert len({c.recipe.key for c in cells if c.alpha == 0}) == 1
    assert len({c.recipe.key for c in cells}) == 4


@pytest.mark.parametrize(
    ("recipe", "temperatures", "alphas", "line"),
    [
        (BASE, (0.0,), (0.5,), "temperature: got 0.0, allowed: from 0 to 50, above 0"),
        (BASE, (float("nan"),), (0.5,), "temperature: got nan"),
        (BASE, (4.0,), (1.5,), "alpha: got 1.5, allowed: from 0 to 1"),
        (BASE, (), (0.5,), "cells: got 0"),
        (BASE, tuple(range(1, 41)), (0.1, 0.5, 0.9), "cells: got 120, allowed: from 1 to 100"),
        (Recipe(steps=(Prune(sparsity=0.9),)), (4.0,), (0.5,), "a recipe that distills"),
        (Recipe(steps=(Distill(loss="logits"),)), (4.0,), (0.5,), "loss: got 'logits'"),
    ],
)
def test_a_grid_that_cannot_be_is_said(
    recipe: Recipe, temperatures: tuple[float, ...], alphas: tuple[float, ...], line: str
) -> None:
    with pytest.raises(InvalidInput, match=line):
        grid(recipe, temperatures, alphas)


def measured(cell: Cell, correct: float, loss: tuple[float, float, float]) -> Run:
    """A finished run of a cell: its accuracy, and its difference to the original."""
    run = finished(cell.recipe)
    assert run.compressed is not None and run.delta is not None
    top1 = Interval(value=correct, low=correct - 0.01, high=correct + 0.01, n=5000)
    change = Interval(value=loss[0], low=loss[1], high=loss[2], n=5000)
    return run.model_copy(
        update={
            "compressed": run.compressed.model_copy(update={"top1": top1}),
            "delta": run.delta.model_copy(update={"top1": change}),
        }
    )


CELLS = grid(BASE, (1.0, 4.0, 8.0), (0.9,))
BEST = measured(CELLS[1], 0.90, (-0.02, -0.03, -0.01))
CLOSE = measured(CELLS[0], 0.89, (-0.03, -0.04, -0.029))
WORSE = measured(CELLS[2], 0.80, (-0.12, -0.14, -0.10))


def test_the_best_is_found_and_only_intervals_apart_are_a_difference() -> None:
    runs = [CLOSE, BEST, WORSE]
    assert best_of(runs) == BEST
    assert best_of([]) is None
    assert [clearly_worse(run, BEST) for run in runs] == [False, False, True]
    assert not clearly_worse(BEST, WORSE)


def searched(run: Run, accuracy: float) -> Run:
    top1 = Interval(value=accuracy, low=accuracy - 0.01, high=accuracy + 0.01, n=2500)
    return run.model_copy(update={"search_top1": top1})


def test_the_best_is_chosen_by_the_images_of_the_search_and_not_by_those_it_reports() -> None:
    close, best = searched(CLOSE, 0.91), searched(BEST, 0.90)
    assert best_of([best, close]) == close
    assert "alpha 0.9 (run" in verdict([(CELLS[0], close)], close)
    assert "by the other half of the validation images" in verdict([(CELLS[0], close)], close)
    # runs of an earlier version among them have no such accuracy
    assert best_of([BEST, close]) == BEST


def test_the_verdict_says_what_can_be_told_and_what_not() -> None:
    cells = list(zip(CELLS, (CLOSE, BEST, WORSE), strict=True))
    sentence = verdict(cells, BEST)
    assert f"Best: T = 4, alpha 0.9 (run {BEST.id})" in sentence
    assert "Clearly worse: T = 8, alpha 0.9." in sentence
    assert "The others (1) may be as good" in sentence
    assert "All others (1) may be as good" in verdict(cells[:2], BEST)
    assert "may be" not in verdict(cells[1:], BEST)


def test_a_cell_that_was_done_is_taken_unless_stopped_early_or_done_elsewhere(
    store: Store,
) -> None:
    cell, model = CELLS[0], CLOSE.model
    assert taken(store, model, cell, "auto") is None
    store.runs.add(new_run(model, CLOSE.dataset, cell.recipe, State.QUEUED))
    store.runs.add(CLOSE.model_copy(update={"id": "a", "stopped_early": True}), "cpu")
    store.runs.add(BEST, "cpu")
    assert taken(store, model, cell, "auto") is None
    store.runs.add(CLOSE, "cpu")
    assert taken(store, model, cell, "auto") == taken(store, model, cell, "cpu") == CLOSE
    assert taken(store, model, cell, "cuda") is None
    assert taken(store, "another", cell, "auto") is None
