"""What to start with: `python -m tests.benchmarks.starting_points [--models A,B] [--write]`.

With the preset `better` on each bundled model, for a loss of half a point, one point and three
points: looks for the highest sparsity that stays within the loss on the validation images, by
bisection at each bit width, takes the smallest of the files, and measures it on the test images.
With --write they go to assets/starting_points.json, which the page begins with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from compression.catalogue.cards import card, cards
from compression.catalogue.starting_points import StartingPoint, starting_points_path
from compression.data.datasets import load_dataset
from compression.export.packed import file
from compression.measure.accuracy import compare, predict
from compression.methods.pipeline import compress
from compression.models.load import original_of
from compression.models.parametrize import materialize
from compression.recipe.presets import apply_preset
from compression.recipe.recipe import Recipe, parse
from compression.runs.statistics import Interval

PRESET = "better"
LOSSES = (-0.005, -0.01, -0.03)
BITS = (4, 3)
PERCENT = range(30, 100)  # sparsity, as fine as the page's slider
COMMAND = "python -m tests.benchmarks.starting_points --write"


@dataclass(frozen=True)
class Tried:
    """A recipe with its change on validation and on test images, and how many times smaller the
    file is."""

    recipe: Recipe
    validation: Interval
    test: Interval
    size_ratio: float


def recipe(percent: int, bits: int) -> Recipe:
    """So many zeros, so many bits."""
    steps = [{"step": "prune", "sparsity": percent / 100}, {"step": "quantize", "bits": bits}]
    return parse(Recipe, {"steps": [apply_preset(PRESET, step) for step in steps]})


def _tried(model: str, made: Recipe) -> Tried:
    model_made = compress(model, made, device="cpu").model
    compressed = materialize(model_made)
    data, original = load_dataset("fashion-mnist"), original_of(model)
    validation, test = (
        compare(predict(original, split), predict(compressed, split)).change
        for split in (data.validation, data.test)
    )
    entry = card(model)
    packed = file.pack(
        model_made,
        architecture=entry.architecture,
        classes=entry.classes,
        details={"model": model},
    )
    return Tried(made, validation, test, entry.dense_bytes / len(packed))


def most_zeros(change_of: Callable[[int], float], about: float) -> int | None:
    """The highest percentage of `PERCENT` whose change is at least `about`, by bisection.

    Args:
        change_of: of the accuracy, for a percentage; it falls as the percentage rises.

    Returns:
        None if even the lowest loses more.
    """
    low, high = PERCENT.start - 1, PERCENT.stop
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if change_of(middle) >= about else (low, middle)
    return low if low in PERCENT else None


def points(model: str) -> list[StartingPoint]:
    """The smallest file for each loss, by the validation images, with its change on test images."""

    @cache
    def tried(percent: int, bits: int) -> Tried:
        one = _tried(model, recipe(percent, bits))
        change = f"{100 * one.validation.value:+.2f}"
        print(model, f"{percent} %, {bits} bits", change, f"{one.size_ratio:.1f}x", flush=True)
        return one

    chosen = []
    for about in LOSSES:
        within = [
            tried(percent, bits)
            for bits in BITS
            if (percent := most_zeros(lambda p, b=bits: tried(p, b).validation.value, about))
        ] or [tried(PERCENT.start, BITS[0])]
        one = max(within, key=lambda t: t.size_ratio)
        ratio = round(one.size_ratio, 3)
        chosen.append(
            StartingPoint(about=about, recipe=one.recipe, change=one.test, size_ratio=ratio)
        )
    return chosen


def main() -> None:
    """Measure and print; with --write keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    bundled = [m for m, c in cards().items() if c.bundled]
    parser.add_argument("--models", default=",".join(bundled), help="ids, with commas between")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    path = starting_points_path()
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"models": {}}
    document["command"] = COMMAND
    for model in given.models.split(","):
        made = points(model)
        for point in made:
            print(model, point.title, f"test {100 * point.change.value:+.2f}", point.size_ratio)
        document["models"][model] = [json.loads(p.model_dump_json()) for p in made]
        if given.write:
            document["models"] = dict(sorted(document["models"].items()))
            path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
