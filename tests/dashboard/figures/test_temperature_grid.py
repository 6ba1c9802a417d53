"""Which temperature: the grid, its cells, the sentence on them, and the figure."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.recipe.steps import Distill
from compression.runs.results import Run, State
from compression.runs.statistics import Interval
from dashboard.figures.temperature_grid import grid_figure
from dashboard.numbers import temperature_grid
from tests.dashboard.runs import done, ended, recipe, sweep

PAIRS = [(t, a) for t in (1.0, 2.0, 4.0) for a in (0.5, 0.9)]
BASE = {"sparsity": 0.95, "bits": 3, "images": 10_000}
CELLS = st.dictionaries(st.sampled_from(PAIRS), st.integers(300, 960).map(lambda v: v / 1000))


def grid(accuracies: dict[tuple[float, float], float]) -> temperature_grid.Grid:
    made = temperature_grid.grid_of(sweep(BASE, accuracies), None)
    assert made is not None
    return made


def test_the_grid_differs_from_the_form_in_temperature_alpha_and_budget_only() -> None:
    recipes = temperature_grid.grid_recipes(
        recipe(sparsity=0.9, temperature=3.0, epochs=7, loss="dkd")
    )
    assert len({r.key for r in recipes}) == 12
    pairs = {(r.steps[1].temperature, r.steps[1].alpha) for r in recipes}  # type: ignore[union-attr]
    assert pairs == set(itertools.product((1, 2, 4, 8), (0.5, 0.9, 1.0)))
    assert len({temperature_grid.group_key(r) for r in recipes}) == 1
    for made in recipes:
        prune, step = made.steps
        assert prune == recipe(sparsity=0.9).steps[0]
        assert isinstance(step, Distill)
        assert (step.images, step.epochs, step.loss) == (10_000, 1, "dkd")


@given(CELLS)
def test_a_grid_needs_three_cells_and_two_temperatures(
    accuracies: dict[tuple[float, float], float],
) -> None:
    grids = temperature_grid.grids(sweep(BASE, accuracies))
    enough = len(accuracies) >= 3 and len({t for t, _ in accuracies}) > 1
    assert len(grids) == enough
    for made in grids:
        cells = {(c.temperature, c.alpha): c.accuracy for c in made.cells}
        assert cells == accuracies
        assert made.best.accuracy == max(accuracies.values())


def test_the_newest_run_of_a_cell_counts_and_others_are_left_out() -> None:
    runs = sweep(BASE, dict.fromkeys(PAIRS, 0.9))
    again = sweep(BASE, {PAIRS[0]: 0.93})
    strange: list[Run] = [
        ended(State.FAILED, recipe(**BASE, temperature=16.0)),
        done(recipe(**BASE, temperature=16.0, epochs=2)),
        done(recipe(**BASE)),
    ]
    (newest,) = temperature_grid.grids([*runs, *strange, *again])
    assert len(newest.cells) == len(PAIRS)
    assert newest.best.run.id == again[0].id


def test_the_selected_runs_grid_is_shown_or_else_the_newest() -> None:
    older = sweep(BASE, dict.fromkeys(PAIRS, 0.9))
    newer = sweep({"bits": 2}, dict.fromkeys(PAIRS, 0.8))
    runs = [*older, *newer]
    for chosen, expected in ((older[0], older), (newer[0], newer), (None, newer)):
        shown = temperature_grid.grid_of(runs, chosen)
        assert shown is not None
        assert {c.run.id for c in shown.cells} == {r.id for r in expected}
    assert temperature_grid.grid_of(older[:2], None) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0.903, "all 6 lie within 0.30 points and their 95 % intervals overlap"),
        (0.95, "no other 95 % interval overlaps"),
    ],
)
def test_what_may_be_chance_is_said(value: float, says: str) -> None:
    made = grid(dict.fromkeys(PAIRS, 0.9) | {(2.0, 0.9): value})
    assert temperature_grid.notice(made).startswith("T = 2 with alpha 0.9 did best")
    assert says in temperature_grid.notice(made)


def test_the_best_is_chosen_by_the_images_of_the_search() -> None:
    runs = sweep(BASE, dict.fromkeys(PAIRS, 0.9) | {(4.0, 0.5): 0.91})
    runs = [
        run.model_copy(update={"search_top1": Interval(value=v, low=v, high=v, n=2500)})
        for run, v in zip(runs, (0.9, 0.9, 0.93, 0.9, 0.92, 0.9), strict=True)
    ]
    made = temperature_grid.grid_of(runs, None)
    assert made is not None
    assert (made.best.temperature, made.best.alpha, made.best.accuracy) == (2.0, 0.5, 0.9)
    text = temperature_grid.notice(made)
    assert "on the images used during training; it has 90.0" in text
    assert "all 6 lie within 1.00 points" in text


def test_some_within_the_interval_are_counted() -> None:
    made = grid(dict.fromkeys(PAIRS, 0.8) | {(2.0, 0.9): 0.9, (4.0, 0.9): 0.895})
    assert "the 95 % interval of another overlaps" in temperature_grid.notice(made)
    near = dict.fromkeys([(4.0, 0.9), (1.0, 0.9)], 0.895)
    made = grid(dict.fromkeys(PAIRS, 0.8) | {(2.0, 0.9): 0.9} | near)
    assert "2 others overlap with its own: those differences may be" in temperature_grid.notice(
        made
    )


def test_a_line_for_each_alpha_with_intervals_and_clicks() -> None:
    made = grid({pair: 0.8 + 0.01 * i for i, pair in enumerate(PAIRS)})
    figure = grid_figure(made, made.best.run.id)
    lines = [t for t in figure.data if t.customdata is not None]
    assert [t.name for t in lines] == ["Alpha 0.5", "Alpha 0.9"]
    assert sorted(i[0] for t in lines for i in t.customdata) == sorted(c.run.id for c in made.cells)
    assert list(lines[0].error_y.array) == pytest.approx([0.3] * 3)  # of the paired change
    assert [max(t.marker.line.width) for t in lines] == [0.0, 3.0]
    assert "Temperature" in figure.layout.xaxis.title.text
    assert "%" in figure.layout.yaxis.title.text


def test_labels_alone_are_a_level_and_no_cell() -> None:
    plain = done(recipe(**BASE, alpha=0.0, temperature=4.0), 0.87)
    made = temperature_grid.grid_of([plain, *sweep(BASE, dict.fromkeys(PAIRS, 0.9))], None)
    assert made is not None and made.labels is not None
    assert (made.labels.accuracy, len(made.cells)) == (0.87, len(PAIRS))
    names = [t.name for t in grid_figure(made, None).data]
    assert names[-2:] == ["The original", "Labels only (alpha 0)"]
