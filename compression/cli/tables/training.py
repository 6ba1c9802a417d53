"""How training went, and what a sweep found, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from compression.runs.format import NONE, digits, percent
from compression.runs.progress import Curve
from compression.runs.results import Run
from compression.runs.sweep import Cell


def curve(drawn: Curve) -> Table:
    """One line a point of a training curve."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in (
        *("epoch", "loss", "hard", "soft", "learning rate"),
        *("validation top-1 (95 % interval)", "images/s"),
    ):
        table.add_column(title, justify="right", no_wrap=True)
    for point in drawn.points:
        figures = (point.loss, point.hard, point.soft, point.learning_rate)
        table.add_row(
            f"{point.epoch:.2f}",
            *(NONE if value is None else digits(value) for value in figures),
            percent(point.top1),
            NONE if point.images_per_second is None else digits(point.images_per_second),
        )
    return table


def sweep(cells: Sequence[tuple[Cell, Run | None]], best: Run | None) -> Table:
    """Temperature down, alpha across; validation accuracy in the cells, the best one marked."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("temperature", no_wrap=True)
    alphas = list(dict.fromkeys(cell.alpha for cell, _ in cells))
    for alpha in alphas:
        table.add_column(f"alpha {alpha:g}", justify="right", no_wrap=True)
    runs_by_cell = {(cell.temperature, cell.alpha): run for cell, run in cells}
    for temperature in dict.fromkeys(cell.temperature for cell, _ in cells):
        row = (runs_by_cell.get((temperature, alpha)) for alpha in alphas)
        table.add_row(f"{temperature:g}", *(_cell(run, best) for run in row))
    return table


def _cell(run: Run | None, best: Run | None) -> str:
    if run is None:
        return "failed"
    mark = "best: " if best is not None and run.id == best.id else ""
    return mark + percent(run.compressed.top1 if run.compressed else None)
