"""Runs that differ in temperature and alpha only: which did best, and whether clearly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill
from compression.runs import sweep
from compression.runs.results import Run, State
from dashboard.numbers import format as fmt

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
ALPHAS = (0.5, 0.9, 1.0)
IMAGES, EPOCHS = 10_000, 1
FEWEST_CELLS = 3


@dataclass(frozen=True)
class Cell:
    """One run of a grid: its accuracy on the validation images, with a 95 % interval.

    The interval is that of the change against the original, paired on the same images, which is
    what tells runs apart; or else that of the accuracy itself.
    """

    temperature: float
    alpha: float
    run: Run
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Grid:
    """Runs that differ in temperature and alpha only, newest of each pair.

    `original` is the original's accuracy on the same images, as a fraction. `labels` is the run
    trained on the labels only, on which the temperature has no effect.
    """

    recipe: Recipe
    cells: tuple[Cell, ...]
    original: float | None
    labels: Cell | None = None

    @property
    def temperatures(self) -> tuple[float, ...]:
        return tuple(sorted({c.temperature for c in self.cells}))

    @property
    def alphas(self) -> tuple[float, ...]:
        return tuple(sorted({c.alpha for c in self.cells}))

    @property
    def best(self) -> Cell:
        """The cell to choose: by the images that the runs were trained and chosen by."""
        chosen = sweep.best_of([c.run for c in self.cells])
        return next(c for c in self.cells if c.run is chosen)


def grid_recipes(recipe: Recipe) -> tuple[Recipe, ...]:
    """The recipe with every pair of temperature and alpha, on a short budget."""
    short = _with(recipe, {"images": IMAGES, "epochs": EPOCHS})
    return tuple(cell.recipe for cell in sweep.grid(short, TEMPERATURES, ALPHAS))


def _with(recipe: Recipe, values: dict[str, float | int]) -> Recipe:
    steps = [s.model_copy(update=values) if isinstance(s, Distill) else s for s in recipe.steps]
    return recipe.model_copy(update={"steps": tuple(steps)})


def group_key(recipe: Recipe) -> str | None:
    """The same for recipes that differ in temperature and alpha only.

    None if nothing is distilled, or more than once: then there is no single temperature.
    """
    if sum(isinstance(s, Distill) for s in recipe.steps) != 1:
        return None
    return _with(recipe, {"temperature": 1.0, "alpha": 0.5}).key


def grids(runs: Sequence[Run]) -> tuple[Grid, ...]:
    """Every group of at least three finished runs at two temperatures or more; runs oldest first.

    The group with the newest run is last.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        key = group_key(run.recipe)
        if key is not None and run.state is State.DONE and run.compressed and run.compressed.top1:
            groups[key] = [*groups.pop(key, []), run]
    candidates = (_grid(group) for group in groups.values())
    return tuple(g for g in candidates if len(g.cells) >= FEWEST_CELLS and len(g.temperatures) > 1)


def grid_of(runs: Sequence[Run], chosen: Run | None) -> Grid | None:
    """The grid that the chosen run is in, or else the newest."""
    all_grids = grids(runs)
    key = group_key(chosen.recipe) if chosen is not None else None
    same = [g for g in all_grids if key is not None and group_key(g.recipe) == key]
    return next(iter(same), all_grids[-1] if all_grids else None)


def _grid(group: Sequence[Run]) -> Grid:
    cells: dict[tuple[float, float], Cell] = {}
    original, labels = None, None
    for run in group:
        step = next(s for s in run.recipe.steps if isinstance(s, Distill))
        cell = _cell(run, step)
        if step.needs_teacher:
            cells[step.temperature, step.alpha] = cell
        else:
            labels = cell
        if run.baseline and run.baseline.top1:
            original = run.baseline.top1.value
    return Grid(group[-1].recipe, tuple(cells[k] for k in sorted(cells)), original, labels)


def _cell(run: Run, step: Distill) -> Cell:
    assert run.compressed is not None and run.compressed.top1 is not None
    top1, change = run.compressed.top1, run.delta.top1 if run.delta else None
    low, high = top1.low, top1.high
    if change is not None:
        low = top1.value - (change.value - change.low)
        high = top1.value + (change.high - change.value)
    return Cell(step.temperature, step.alpha, run, top1.value, low, high)


def notice(grid: Grid) -> str:
    """Which cell is best, and whether the difference may be chance."""
    best = grid.best
    others = [c for c in grid.cells if c is not best]
    near = [c for c in others if not sweep.clearly_worse(c.run, best.run)]
    accuracy = fmt.percent(best.accuracy)
    winner = f"T = {best.temperature:g} with alpha {best.alpha:g} did best, "
    if best.run.search_top1 is None:
        winner += f"at {accuracy}"
    else:
        winner += f"on the images used during training; it has {accuracy} on those shown here"
    if len(near) == len(others):
        accuracies = [c.accuracy for c in grid.cells]
        spread = fmt.points(max(accuracies) - min(accuracies)).removeprefix("+")
        return (
            f"{winner}, but all {len(grid.cells)} lie within {spread} and their 95 % intervals "
            "overlap: the differences may be chance."
        )
    if not near:
        return f"{winner}; no other 95 % interval overlaps with its own."
    if len(near) == 1:
        several = "interval of another overlaps with its own: that difference"
    else:
        several = f"intervals of {len(near)} others overlap with its own: those differences"
    return f"{winner}, but the 95 % {several} may be chance."
