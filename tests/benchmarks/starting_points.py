"""What to start with: `python -m tests.benchmarks.starting_points [--models A,B] [--write]`.

Tries a ladder of amounts with the preset `better` on each bundled model, chooses for a loss of half
a point, one point and three points the smallest file that stays within it on the validation images,
and measures what was chosen on the test images. With --write they go to
assets/starting_points.json, which the page begins with.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch

from compression.catalogue.cards import card, cards
from compression.catalogue.starting_points import StartingPoint, starting_points_path
from compression.export.packed import file
from compression.measure.accuracy import compare, predict
from compression.methods.pipeline import compress
from compression.models.data import load_dataset
from compression.models.load import original_of
from compression.models.parametrize import materialize
from compression.recipe.presets import apply_preset
from compression.recipe.recipe import Recipe, parse
from compression.runs.statistics import Interval

PRESET = "better"
LOSSES = (-0.005, -0.01, -0.03)
# Sparsity and bits, from careful to bold; within a step of bits the file gets smaller.
LADDER = (
    *((None, 8), (None, 6), (0.3, 6), (0.5, 6), (0.5, 4), (0.6, 4), (0.7, 4)),
    *((0.8, 4), (0.85, 4), (0.9, 4), (0.95, 4), (0.95, 3)),
)
COMMAND = "python -m tests.benchmarks.starting_points --write"


def recipe(sparsity: float | None, bits: int) -> Recipe:
    """One rung of the ladder."""
    pruning = [] if sparsity is None else [{"step": "prune", "sparsity": sparsity}]
    steps = [*pruning, {"step": "quantize", "bits": bits}]
    return parse(Recipe, {"steps": [apply_preset(PRESET, step) for step in steps]})


def _measured(model: str, made: Recipe) -> tuple[Interval, Interval, float]:
    """The change on validation and on test images, and how many times smaller the file is."""
    model_made = compress(model, made, device="cpu").model
    compressed = materialize(model_made)
    data, original = load_dataset("fashion-mnist"), original_of(model)
    changes = [
        compare(predict(original, split), predict(compressed, split)).change
        for split in (data.validation, data.test)
    ]
    entry = card(model)
    packed = file.pack(
        model_made,
        architecture=entry.architecture,
        classes=entry.classes,
        details={"model": model},
    )
    return changes[0], changes[1], entry.dense_bytes / len(packed)


def points(model: str) -> list[StartingPoint]:
    """The smallest file for each loss, by the validation images, with its change on test images.

    The ladder is left once a rung loses far more than any loss asked for.
    """
    tried: list[tuple[Recipe, Interval, Interval, float]] = []
    for rung in LADDER:
        made = recipe(*rung)
        tried.append((made, *_measured(model, made)))
        made_change = tried[-1][1].value
        print(model, rung, f"{100 * made_change:+.2f}", f"{tried[-1][3]:.1f}x", flush=True)
        if made_change < 2 * min(LOSSES):
            break
    chosen = []
    for about in LOSSES:
        within = [t for t in tried if t[1].value >= about] or tried[:1]
        made, _, change, ratio = max(within, key=lambda t: t[3])
        chosen.append(
            StartingPoint(about=about, recipe=made, change=change, size_ratio=round(ratio, 3))
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
