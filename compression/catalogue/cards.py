"""The catalogue of models, read from cards; no torch, so that a page can show it at once.

A bundled model's card is `assets/models/NAME.json`. The ImageNet classifiers of torchvision are
listed in `assets/models/imagenet.json`, which `python -m compression.models.load` writes.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from compression.errors import CompressionError, InvalidInput
from compression.paths import assets_dir
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill
from compression.runs.statistics import Interval


class Weights(BaseModel):
    """How a model's prunable weights are spread: what a threshold would do, without the model.

    `quantiles[i]` is the magnitude below which a fraction i / (len - 1) of all weights lies.
    `largest` is the largest magnitude in each layer, `counts` the weights in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    quantiles: tuple[float, ...]
    largest: dict[str, float]
    counts: dict[str, int]

    def sparsity(self, threshold: float) -> float:
        """Fraction of the weights smaller than `threshold`, between stored quantiles."""
        points = self.quantiles
        last = len(points) - 1
        if threshold > points[-1]:
            return 1.0
        for i, high in enumerate(points):
            if threshold <= high:
                low = points[i - 1] if i else 0.0
                inside = (threshold - low) / (high - low) if high > low else 0.0
                return max(0.0, (i - 1 + inside) / last)
        return 1.0

    def threshold(self, sparsity: float) -> float:
        """The magnitude below which that fraction of the weights lies."""
        at = min(max(sparsity, 0.0), 1.0) * (len(self.quantiles) - 1)
        i = min(int(at), len(self.quantiles) - 2)
        low, high = self.quantiles[i], self.quantiles[i + 1]
        return low + (at - i) * (high - low)

    def emptied(self, threshold: float) -> tuple[str, ...]:
        """Layers in which no weight would remain."""
        return tuple(name for name, top in self.largest.items() if top < threshold)


class Card(BaseModel):
    """What is known of a model before it runs. Top-1 is a fraction on the named test images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    title: str
    architecture: str
    dataset: str | None
    classes: int
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int | None
    dense_bytes: int
    bundled: bool
    file: str
    test_top1: Interval | None = None
    published_top1: float | None = None
    training: str = ""
    licence: str = ""
    date: str = ""
    weights: Weights | None = None


@cache
def cards() -> dict[str, Card]:
    """Every model by id: the bundled ones first, then torchvision's ImageNet classifiers.

    Returns:
        The card of each model, read once for all and shared: do not change the dict.

    Example:
        >>> from compression import cards
        >>> [name for name, card in cards().items() if card.bundled][0]
        'fashion-mnist/mobilenet_v2'
    """
    folder = assets_dir() / "models"
    files = [p for p in sorted(folder.glob("*.json")) if p.name != "imagenet.json"]
    every = [*map(_read, files), *_read_list(folder / "imagenet.json")]
    return {card.id: card for card in every}


def _read(path: Path) -> Card:
    try:
        return Card.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _read_list(path: Path) -> list[Card]:
    try:
        return [Card.model_validate(entry) for entry in json.loads(path.read_bytes())]
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> CompressionError:
    reason = str(error).splitlines()[0]
    return CompressionError(f"catalogue: {path} cannot be read ({reason}); install again")


def card(model_id: str) -> Card:
    """The card of a model.

    Args:
        model_id: an id listed by `compression models`.

    Returns:
        What is known of the model without its weights: architecture, classes, data set, accuracy.

    Raises:
        InvalidInput: there is no such model; names the nearest ones.

    Example:
        >>> from compression import card
        >>> card("fashion-mnist/resnet18").input_shape
        (3, 32, 32)
    """
    known = cards()
    if model_id not in known:
        near = get_close_matches(model_id, known, n=3) or [m for m, c in known.items() if c.bundled]
        raise InvalidInput(
            "model", model_id, f"an id listed by `compression models`, such as {', '.join(near)}"
        )
    return known[model_id]


def require_dataset(model_id: str, dataset: str | None, default: str | None) -> None:
    """Refuse any data set but a model's own.

    Args:
        model_id: names the model in the message.
        dataset: the id asked for; None asks for the model's own.
        default: the id of the model's own data set; None if there are no labelled images for it.

    Raises:
        InvalidInput: it is another one.
    """
    if dataset not in (None, default):
        allowed = default or f"none: there is none for {model_id} yet"
        raise InvalidInput("dataset", dataset, allowed)


def student_card(recipe: Recipe, classes: int, dataset: str | None) -> Card | None:
    """The card of the model that a recipe trains in place of the one it is given; None if none.

    Args:
        recipe: its first step may name a student.
        classes: how many classes the given model tells apart.
        dataset: the id of its data set.

    Raises:
        InvalidInput: there is no such student, or it is of other classes.
    """
    first = recipe.steps[0] if recipe.steps else None
    if not isinstance(first, Distill) or first.student is None:
        return None
    student = card(first.student)
    if (student.dataset, student.classes) != (dataset, classes):
        raise InvalidInput(
            "student", first.student, f"a model of the {classes} classes of {dataset}"
        )
    return student
