"""A grid of temperature x alpha: the recipes of its cells, and what their runs say. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from compression.errors import InvalidInput
from compression.recipe.recipe import Recipe, parse
from compression.recipe.steps import STEPS, Distill
from compression.runs.results import Run
from compression.runs.statistics import Interval

MAX_CELLS = 100


@dataclass(frozen=True)
class Cell:
    """One pair of settings and the recipe that has them."""

    temperature: float
    alpha: float
    recipe: Recipe

    @property
    def title(self) -> str:
        """Short enough for a line: T = 4, alpha 0.9."""
        return f"T = {self.temperature:g}, alpha {self.alpha:g}"


def grid(recipe: Recipe, temperatures: Sequence[float], alphas: Sequence[float]) -> list[Cell]:
    """The cells, temperature by temperature. Only the last `Distill` step differs.

    Where the original's logits take no part (alpha 0), temperature has no effect: these cells
    share one recipe.

    Raises:
        InvalidInput: a value out of range, no values or too many, or a recipe without a
            distillation that has a temperature.
    """
    places = [at for at, step in enumerate(recipe.steps) if isinstance(step, Distill)]
    if not places:
        raise InvalidInput("recipe", recipe.sentence(), "a recipe that distills")
    step = recipe.steps[places[-1]]
    if isinstance(step, Distill) and step.loss == "logits":
        raise InvalidInput("loss", step.loss, "another: raw logits have no temperature and alpha")
    count = len(temperatures) * len(alphas)
    if not 1 <= count <= MAX_CELLS:
        raise InvalidInput("cells", count, f"from 1 to {MAX_CELLS}")
    return [
        Cell(temperature, alpha, _with(recipe, places[-1], temperature, alpha))
        for temperature in temperatures
        for alpha in alphas
    ]


def _with(recipe: Recipe, at: int, temperature: float, alpha: float) -> Recipe:
    values = {**recipe.steps[at].model_dump(), "temperature": temperature, "alpha": alpha}
    step = parse(STEPS["distill"], values)
    if isinstance(step, Distill) and not step.needs_teacher:
        default = Distill.model_fields["temperature"].default
        step = step.model_copy(update={"temperature": default})
    return recipe.model_copy(update={"steps": (*recipe.steps[:at], step, *recipe.steps[at + 1 :])})


def best_of(runs: Iterable[Run]) -> Run | None:
    """The run to choose, the first of equals; None without any.

    It is the most accurate on the images of the search, so that the accuracy that it reports, on
    other images, is not the luckiest of several. Earlier versions did not measure that: if it is
    missing anywhere, the most accurate on what is reported.
    """
    known = [run for run in runs if _top1(run) is not None]
    searched = all(run.search_top1 is not None for run in known)
    by = (lambda run: run.search_top1) if searched else _top1
    return max(known, key=lambda run: _value(by(run)), default=None)


def clearly_worse(run: Run, best: Run) -> bool:
    """Whether a run loses so much more to the original than the best that it is not by chance.

    That is: the 95 % intervals of their differences to the original, each paired on the same
    images, do not overlap. This is stricter than a paired comparison of the two, for which the
    predictions of both on each image would be needed.
    """
    if run.delta is None or best.delta is None:
        return False
    ours, theirs = run.delta.top1, best.delta.top1
    return ours is not None and theirs is not None and ours.high < theirs.low


def _top1(run: Run) -> Interval | None:
    return run.compressed.top1 if run.compressed else None


def _value(interval: Interval | None) -> float:
    return interval.value if interval else 0.0
