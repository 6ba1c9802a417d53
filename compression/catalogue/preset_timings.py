"""What the presets take, as `python -m tests.benchmarks.costs --write` measured it. No torch."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from compression.errors import CompressionError
from compression.paths import assets_dir
from compression.recipe.presets import preset_of
from compression.recipe.recipe import Recipe


class Costs(BaseModel):
    """Seconds that each preset takes, by model and preset, and where that was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    machine: str = ""
    command: str = ""
    seconds: dict[str, dict[str, float]] = {}

    def of(self, model: str, preset: str) -> float | None:
        """Seconds, or None if not measured."""
        return self.seconds.get(model, {}).get(preset)


def costs_path() -> Path:
    """The file that `python -m tests.benchmarks.costs --write` writes."""
    return assets_dir() / "costs.json"


@cache
def costs() -> Costs:
    """What the presets were measured to take; empty where nothing was.

    Raises:
        CompressionError: the file is damaged.
    """
    path = costs_path()
    if not path.exists():
        return Costs()
    try:
        return Costs.model_validate(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CompressionError(f"presets: {path} cannot be read ({reason})") from None


def preset_seconds(model: str, recipe: Recipe, preset: str | None = None) -> float | None:
    """Seconds that applying a recipe's preset was measured to take on a model; None if it was not.

    Args:
        model: the model's id.
        recipe: its settings say which preset it is.
        preset: the one that it is if several fit.
    """
    name = preset_of(recipe, first=preset)
    return None if name is None else costs().of(model, name)
