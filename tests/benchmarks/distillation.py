"""What teaching wins back: `python -m tests.benchmarks.distillation [--minutes N] [--write]`.

Every cell compresses a bundled model (preset `better`), then trains it for so many epochs, by
distillation or by the labels alone with the same settings, and looks at the 10,000 test images.
Cells that are in `distillation.jsonl` are not done again; those still missing are done in the order
of `cells()` until the minutes are over. --write puts the table into the README.
"""

from __future__ import annotations

import argparse
import base64
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.catalogue.cards import card, cards
from compression.recipe.presets import apply_preset
from compression.recipe.recipe import Recipe, parse
from compression.runs.progress import Curve
from tests.benchmarks.costs import machine
from tests.readme import BENCHMARKS, markdown_table, replace_section

RESULTS = Path(__file__).with_suffix(".jsonl")
EPOCHS, SEEDS = (1, 2, 5), (0, 1, 2)
FEWER = {1: "¹", 2: "²"}
METHODS = {"distillation": 0.9, "fine-tuning": 0.0}
CONDITIONS: dict[str, dict[str, Any]] = {
    "2 bits": {"step": "quantize", "bits": 2},
    "3 bits": {"step": "quantize", "bits": 3},
    "95 % zeros": {"step": "prune", "sparsity": 0.95},
    "98 % zeros": {"step": "prune", "sparsity": 0.98},
    "half the channels": {"step": "prune", "sparsity": 0.5, "pattern": "channels"},
}
# Chosen on validation images, a few trials each; the same for both methods.
_ADAM = {"optimizer": "adamw", "learning_rate": 0.003, "warmup": 0.1}
TRAINED: dict[str, dict[str, Any]] = {
    "shufflenet_v2_x0_5": _ADAM,
    "mobilenet_v3_small": _ADAM,
    "squeezenet1_1": {
        **_ADAM,
        "learning_rate": 0.0005,
        "dropout": "none",
        "precision": "bfloat16",
    },
    "resnet18": {"learning_rate": 0.02, "precision": "bfloat16"},
    "mobilenet_v2": _ADAM,
}
# Where little was lost, smaller steps: what is nearly right must not be shaken first. Without batch
# normalisation only a model with all its weights stands larger ones.
FACTORS = {("", "3 bits"): 1 / 3, ("squeezenet1_1", "2 bits"): 4.0}
TEACHER, STUDENT = "fashion-mnist/resnet18", "fashion-mnist/shufflenet_v2_x0_5"
TAUGHT = "taught by resnet18"

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Cell:
    """One training; `epochs` 0 and no method is what the repair alone gives."""

    model: str
    condition: str
    method: str
    epochs: int
    seed: int


def cells() -> Iterator[Cell]:
    """Every cell, the cheap ones first: one epoch of every model before five of any."""
    for epochs in (0, *EPOCHS):
        for name in TRAINED:
            for seed in SEEDS:
                yield from _of(f"fashion-mnist/{name}", epochs, seed)


def _of(model: str, epochs: int, seed: int) -> Iterator[Cell]:
    for condition in CONDITIONS:
        for method in METHODS if epochs else ("",):
            if condition != "half the channels" or "shufflenet" not in model:
                yield Cell(model, condition, method, epochs, seed)
    if model == STUDENT and epochs:
        for method in METHODS:
            yield Cell(model, TAUGHT, method, epochs, seed)


def recipe_of(cell: Cell) -> tuple[str, Recipe]:
    """The model that a cell's recipe is for, and the recipe."""
    name = cell.model.rpartition("/")[2]
    settings: dict[str, Any] = {
        "step": "distill",
        "epochs": cell.epochs,
        "alpha": METHODS.get(cell.method, 0.0),
        "augmentation": "none",
        **TRAINED[name],
    }
    factor = FACTORS.get((name, cell.condition), FACTORS.get(("", cell.condition), 1.0))
    settings["learning_rate"] *= factor
    if cell.condition == TAUGHT:
        steps = [{**settings, "student": cell.model}]
        return TEACHER, parse(Recipe, {"steps": steps, "seed": cell.seed})
    steps = [apply_preset("better", CONDITIONS[cell.condition])]
    steps += [settings] if cell.epochs else []
    return cell.model, parse(Recipe, {"steps": steps, "seed": cell.seed})


def measure(cell: Cell, device: str) -> dict[str, Any]:
    """Do a cell: right or wrong for each test image, seconds, images per second."""
    from compression.data.datasets import load_dataset
    from compression.measure.accuracy import predict
    from compression.methods.pipeline import compress

    model, recipe = recipe_of(cell)
    started = time.perf_counter()
    made = compress(model, recipe, device=device)
    seconds = time.perf_counter() - started
    seen = predict(made.model, load_dataset(str(card(cell.model).dataset)).test, device)
    made.model.to("cpu")
    return {
        **asdict(cell),
        "key": recipe.key,
        "device": made.curves[-1].device if made.curves else "",
        "machine": machine(),
        "seconds": round(seconds, 1),
        "images_per_second": speed(made.curves),
        "right": base64.b64encode(np.packbits(seen.right.numpy()).tobytes()).decode(),
    }


def speed(curves: tuple[Curve, ...]) -> float | None:
    """Median images per second of the points of the last curve."""
    found = (
        [p.images_per_second for p in curves[-1].points if p.images_per_second] if curves else []
    )
    return float(f"{np.median(found):.4g}") if found else None


def read(path: Path = RESULTS) -> dict[Cell, dict[str, Any]]:
    """What has been measured with the settings that cells have now, by cell."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    found = {Cell(**{k: row[k] for k in Cell.__dataclass_fields__}): row for row in rows}
    return {cell: row for cell, row in found.items() if row["key"] == recipe_of(cell)[1].key}


def right(found: Mapping[str, Any]) -> Right:
    """Right or wrong for each test image."""
    packed = np.frombuffer(base64.b64decode(found["right"]), np.uint8)
    return np.unpackbits(packed).astype(bool)[: len(packed) * 8]


@dataclass(frozen=True)
class Change:
    """Mean over seeds of a change in points, its 95 % interval over images and seeds."""

    value: float
    half: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.value:+.2f} ± {self.half:.2f}{FEWER.get(self.seeds, '')}"


def change(pairs: list[tuple[Right, Right]]) -> Change:
    """Second minus first, paired on the same images and the same seeds.

    The images' part of the variance is that of the mean over seeds of each image's difference; the
    seeds' part, where there are several, that of their own means. They are added, which errs on the
    wide side.
    """
    each = 100 * np.array([b.astype(float) - a.astype(float) for a, b in pairs])
    images = each.mean(0).var(ddof=1) / each.shape[1]
    seeds = each.mean(1).var(ddof=1) / len(pairs) if len(pairs) > 1 else 0.0
    return Change(float(each.mean()), float(1.96 * np.sqrt(images + seeds)), len(pairs))


def table(found: Mapping[Cell, dict[str, Any]], originals: Mapping[str, Right]) -> str:
    """Changes against the original in points, the clearly better method bold, and how often."""
    rows, winners = [], []
    for model in dict.fromkeys(c.model for c in found):
        for condition in (*CONDITIONS, TAUGHT):
            if any((c.model, c.condition) == (model, condition) for c in found):
                row, won = _row(found, originals[model], model, condition)
                rows.append(row)
                winners += won
    header = ["model", "", "repair alone"]
    header += [f"{method}, {e} epoch{'s'[: e - 1]}" for e in EPOCHS for method in METHODS]
    text = markdown_table(header, rows, right=1 + len(EPOCHS) * len(METHODS))
    better = ", ".join(f"{method} in {winners.count(method)}" for method in METHODS)
    text += f"\n\nClearly better, of {len(winners)} pairs: {better}; "
    text += f"about {len(winners) / 20:.0f} would seem so by chance."
    marks = "".join(f"; {mark} {seeds} of them" for seeds, mark in FEWER.items() if mark in text)
    return text + f" {len(SEEDS)} seeds each{marks}."


def _row(
    found: Mapping[Cell, dict[str, Any]], original: Right, model: str, condition: str
) -> tuple[list[str], list[str]]:
    """The cells; and for each budget that both methods were measured with, what `_winner` says."""

    def seen(method: str, epochs: int) -> dict[int, Right]:
        wanted = {s: Cell(model, condition, method, epochs, s) for s in SEEDS}
        return {s: right(found[c]) for s, c in wanted.items() if c in found}

    def shown(results: dict[int, Right]) -> str:
        return str(change([(original, r) for r in results.values()])) if results else ""

    row, winners = [f"`{model.rpartition('/')[2]}`", condition, shown(seen("", 0))], []
    for epochs in EPOCHS:
        results = {method: seen(method, epochs) for method in METHODS}
        taught, tuned = results.values()
        both = [(tuned[s], taught[s]) for s in taught if s in tuned]
        winners += [_winner(both)] if both else []
        for method, result in results.items():
            bold = "**" if both and method == winners[-1] else ""
            row.append(f"{bold}{shown(result)}{bold}")
    return row, winners


def _winner(both: list[tuple[Right, Right]]) -> str:
    """The clearly better method, from pairs of fine-tuning and distillation; "" if neither is."""
    against = change(both)
    taught, tuned = METHODS
    if abs(against.value) <= against.half:
        return ""
    return taught if against.value > 0 else tuned


def original_right(model: str) -> Right:
    """The original on the test images."""
    from compression.data.datasets import load_dataset
    from compression.measure.accuracy import predict
    from compression.models.load import load_model

    seen = predict(load_model(model), load_dataset(str(card(model).dataset)).test)
    answers: Right = seen.right.numpy()
    return answers


def main(arguments: list[str] | None = None) -> None:
    """Do cells until the time is over; print the table; with --write put it into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    bundled = [m for m, c in cards().items() if c.bundled]
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no cell after so many")
    parser.add_argument("--models", default=",".join(bundled), help="ids, with commas between")
    parser.add_argument("--epochs", type=int, default=max(EPOCHS), help="no cell with more")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="only the first so many")
    parser.add_argument("--conditions", default=",".join((*CONDITIONS, TAUGHT)))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(arguments)
    until = time.monotonic() + 60 * given.minutes
    found = read()
    for cell in cells():
        wanted = cell.model in given.models.split(",") and cell.seed < given.seeds
        wanted = wanted and cell.condition in given.conditions.split(",")
        if not wanted or cell in found or cell.epochs > given.epochs or time.monotonic() >= until:
            continue
        if given.threads:
            import torch

            torch.set_num_threads(given.threads)
        found[cell] = measure(cell, given.device)
        with RESULTS.open("a") as file:
            file.write(json.dumps(found[cell]) + "\n")
        share = right(found[cell]).mean()
        print(f"{cell}: {100 * share:.2f} % in {found[cell]['seconds']} s", flush=True)
    if found and (given.write or not given.minutes):
        text = table(found, {m: original_right(m) for m in {c.model for c in found}})
        print(text)
        if given.write:
            replace_section("distillation", text, BENCHMARKS)


if __name__ == "__main__":
    main()
