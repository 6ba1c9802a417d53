"""Which temperature: runs that differ in temperature and alpha only. Numbers, then a figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill
from compression.runs import sweep
from compression.runs.results import Run, State
from dashboard.figures.style import FRONT, RING, SCALE
from dashboard.numbers import format as fmt

TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
ALPHAS = (0.5, 0.9, 1.0)
IMAGES, EPOCHS = 10_000, 1
FEWEST_CELLS = 3
_STYLES = (
    (SCALE[0][1], "circle", "solid"),
    ("#e69f00", "square", "dash"),
    ("#009e73", "diamond", "dot"),
    ("#cc79a7", "triangle-up", "dashdot"),
    ("#56b4e9", "x", "longdash"),
)
_APART = 0.025


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

    `labels` is the run that learned from the labels only, which no temperature touches.
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
    """The same for recipes that differ in temperature and alpha only; None if nothing is taught.

    A recipe that teaches more than once has no one temperature.
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
    found = (_grid(group) for group in groups.values())
    return tuple(g for g in found if len(g.cells) >= FEWEST_CELLS and len(g.temperatures) > 1)


def grid_of(runs: Sequence[Run], chosen: Run | None) -> Grid | None:
    """The grid that the chosen run is in, or else the newest."""
    found = grids(runs)
    key = group_key(chosen.recipe) if chosen is not None else None
    mine = [g for g in found if key is not None and group_key(g.recipe) == key]
    return next(iter(mine), found[-1] if found else None)


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
    said = f"T = {best.temperature:g} with alpha {best.alpha:g} did best, "
    if best.run.search_top1 is None:
        said += f"at {accuracy}"
    else:
        said += f"on the images that training looked at; it has {accuracy} on those shown here"
    if len(near) == len(others):
        accuracies = [c.accuracy for c in grid.cells]
        spread = fmt.points(max(accuracies) - min(accuracies)).removeprefix("+")
        return (
            f"{said}, but all {len(grid.cells)} lie within {spread} and their 95 % intervals "
            "overlap: the differences may be chance."
        )
    if not near:
        return f"{said}; the 95 % interval of no other overlaps with its own."
    several = (
        "interval of another overlaps"
        if len(near) == 1
        else f"intervals of {len(near)} others overlap"
    )
    return f"{said}, but the 95 % {several} with its own: against these it may be chance."


def grid_figure(grid: Grid, selected: str | None) -> go.Figure:
    """Accuracy against temperature, a line for each alpha; a click gives a run's id."""
    figure = go.Figure()
    alphas = grid.alphas
    for i, alpha in enumerate(alphas):
        shift = 1 + _APART * (2 * i - len(alphas) + 1)  # so that bars do not hide each other
        _draw_line(figure, grid, alpha, shift, _STYLES[i % len(_STYLES)], selected)
    level: dict[str, tuple[float, str]] = {}
    if grid.original is not None:
        level["The original"] = (grid.original, "dot")
    if grid.labels is not None:
        level["Labels only (alpha 0)"] = (grid.labels.accuracy, "dash")
    for name, (accuracy, dash) in level.items():
        figure.add_scatter(
            x=[grid.temperatures[0] / 1.15, grid.temperatures[-1] * 1.15],
            y=[100 * accuracy] * 2,
            mode="lines",
            line={"color": FRONT, "width": 2, "dash": dash},
            name=name,
            hoverinfo="skip",
        )
    figure.update_layout(
        height=340,
        margin={"l": 64, "r": 8, "t": 36, "b": 52},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemclick": False},
        clickmode="event+select",
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(
        title="Temperature T (logarithmic scale)",
        type="log",
        tickvals=grid.temperatures,
        ticktext=[f"{t:g}" for t in grid.temperatures],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(title="Accuracy (% of validation images)", zeroline=False)
    return figure


def _draw_line(
    figure: go.Figure,
    grid: Grid,
    alpha: float,
    shift: float,
    style: tuple[str, str, str],
    selected: str | None,
) -> None:
    colour, symbol, dash = style
    cells = [c for c in grid.cells if c.alpha == alpha]
    figure.add_scatter(
        x=[c.temperature * shift for c in cells],
        y=[100 * c.accuracy for c in cells],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [100 * max(0.0, c.high - c.accuracy) for c in cells],
            "arrayminus": [100 * max(0.0, c.accuracy - c.low) for c in cells],
            "thickness": 1.2,
            "width": 4,
            "color": colour,
        },
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": dash},
        marker={
            "color": colour,
            "symbol": symbol,
            "size": 11,
            "line": {
                "width": [3.0 if c.run.id == selected else 0.0 for c in cells],
                "color": RING,
            },
        },
        customdata=[[c.run.id] for c in cells],
        hovertext=[_hover(c) for c in cells],
        hoverinfo="text",
        name=f"Alpha {alpha:g}",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
    )


def _hover(cell: Cell) -> str:
    return (
        f"T = {cell.temperature:g}, alpha {cell.alpha:g}<br><b>Accuracy</b> "
        f"{fmt.percent(cell.accuracy)}<br>95 % interval {fmt.number(100 * cell.low)} to "
        f"{fmt.percent(cell.high)}"
    )
