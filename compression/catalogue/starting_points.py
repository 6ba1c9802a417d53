"""Measured recipes to start with, for every bundled model: what to ask for when about half a point,
one point or three points of accuracy may go. No torch."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from compression.errors import CompressionError
from compression.paths import assets_dir
from compression.recipe.recipe import Recipe
from compression.runs.statistics import Interval


class StartingPoint(BaseModel):
    """A recipe that was measured: chosen on validation images, its change measured on test images.

    `about` is the change it was chosen for, `change` what was measured, both as fractions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    about: float
    recipe: Recipe
    change: Interval
    size_ratio: float

    @property
    def title(self) -> str:
        """What it was measured to cost, such as "Loses 0.53 points"."""
        lost = round(-100 * self.change.value, 2)
        if lost <= 0:
            return "Loses nothing"
        return f"Loses {lost:g} {'point' if lost == 1 else 'points'}"


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str
    models: dict[str, tuple[StartingPoint, ...]]


def starting_points_path() -> Path:
    """The file that `python -m tests.benchmarks.starting_points --write` writes."""
    return assets_dir() / "starting_points.json"


@cache
def _all() -> dict[str, tuple[StartingPoint, ...]]:
    path = starting_points_path()
    if not path.exists():
        return {}
    try:
        return _Document.model_validate(json.loads(path.read_bytes())).models
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CompressionError(f"starting points: {path} cannot be read ({reason})") from None


def starting_points(model_id: str) -> tuple[StartingPoint, ...]:
    """The measured recipes of a model, the most careful one first; empty where none were measured.

    Raises:
        CompressionError: the file that holds them is damaged.
    """
    return _all().get(model_id, ())
