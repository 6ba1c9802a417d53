"""The smallest files without training: `python -m tests.benchmarks.smallest [--write]`.

`--preset smallest` on every bundled model, against GPTQ rounding (`--preset better`, other numbers
in 16 bits) with the fewest bits that keep 99 % of the accuracy. Amounts and rates are chosen on one
half of the validation images, and what was chosen is measured on the other half, as a run reports
it, and on the test images; GPTQ's bits are chosen on all validation images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compression.catalogue.cards import card, cards
from compression.cli.flags import build_recipe, recipe_of
from compression.data.datasets import load_dataset
from compression.data.splits import REPORT, SEARCH, Split
from compression.export.packed import file
from compression.measure.accuracy import Comparison, compare, predict
from compression.methods.pipeline import compress
from compression.models.load import original_of
from compression.models.parametrize import materialize
from compression.recipe.recipe import Recipe
from tests.readme import BENCHMARKS, markdown_table, replace_section

RESULTS = Path(__file__).with_suffix(".json")
KEEP = 0.99
_BITS = range(2, 9)


def _compared(model: str, made: nn.Module, split: Split) -> Comparison:
    before, after = (predict(materialize(m), split) for m in (original_of(model), made))
    return compare(before, after)


def _packed(model: str, made: nn.Module, recipe: Recipe) -> int:
    found = card(model)
    said = {"model": model, "recipe": json.loads(recipe.to_json())}
    data = file.pack(made, architecture=found.architecture, classes=10, details=said)
    back = file.unpack(data)
    example = load_dataset("fashion-mnist").validation.head(64)
    assert torch.equal(predict(back, example).logits, predict(materialize(made), example).logits)
    return len(data)


def _row(model: str, made: nn.Module, recipe: Recipe, *splits: str) -> dict[str, Any]:
    size = _packed(model, made, recipe)
    count = sum(p.numel() for p in original_of(model).parameters())
    row: dict[str, Any] = {
        "bytes": size,
        "bits_per_weight": float(f"{8 * size / count:.4g}"),
        "ratio": float(f"{4 * count / size:.4g}"),
    }
    data = load_dataset("fashion-mnist")
    for split in map(data.split, splits):
        found = _compared(model, made, split)
        before, after, change = found.before.value, found.after.value, found.change
        row[split.name] = {
            "before": round(100 * before, 2),
            "top1": round(100 * after, 2),
            "change": [round(100 * v, 2) for v in (change.value, change.low, change.high)],
            "kept": round(after / before, 4),
        }
    return row


def _recipes() -> Iterator[Recipe]:
    for bits in _BITS:
        yield build_recipe({"bits": str(bits), "other_dtype": "float16"}, None, None, "better")


def _gptq(model: str) -> dict[str, Any]:
    """GPTQ with the fewest bits that keep enough of the validation accuracy."""
    validation = load_dataset("fashion-mnist").validation
    for recipe in _recipes():
        made = compress(model, recipe, device="cpu").model
        found = _compared(model, made, validation)
        if found.after.value >= KEEP * found.before.value:
            bits = getattr(recipe.steps[0], "bits", None)
            return {"bits": bits, **_row(model, made, recipe, "validation", "test")}
    raise SystemExit(f"{model}: no bits keep enough")


def measure(model: str, gptq: dict[str, Any] | None = None) -> dict[str, Any]:
    """The preset against GPTQ on one model, or against what `gptq` says was measured before."""
    recipe = recipe_of(model, {}, None, None, "smallest", images=True)
    made = compress(model, recipe, device="cpu")
    row = _row(model, made.model, recipe, SEARCH, REPORT, "test")
    row["notes"] = list(made.notes)
    return {"model": model, "smallest": row, "gptq": gptq or _gptq(model)}


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table."""
    header = (
        *("model", "change reported, points", "change on test", "top-1, test", "accuracy kept"),
        *("file, kB", "bits per weight", "ratio", "GPTQ: bits", "GPTQ: kB", "fewer bytes"),
    )
    lines = []
    for r in rows:
        ours, test, other = r["smallest"], r["smallest"]["test"], r["gptq"]
        lines.append(
            [
                f"`{r['model'].rpartition('/')[2]}`",
                _points(ours[REPORT]["change"]) if REPORT in ours else "not measured",
                _points(test["change"]),
                f"{test['top1']:.2f} %",
                f"{100 * test['kept']:.1f} %",
                f"{ours['bytes'] / 1000:.1f}",
                f"{ours['bits_per_weight']:.3g}",
                f"{ours['ratio']:.3g}x",
                str(other["bits"]),
                f"{other['bytes'] / 1000:.1f}",
                f"{100 * (1 - ours['bytes'] / other['bytes']):.0f} %",
            ]
        )
    text = markdown_table(header, lines, right=10)
    if all(REPORT in r["smallest"] for r in rows):
        return text
    note = "*Not measured*: the row is of an earlier version, which searched all 5,000 images."
    return f"{text}\n\n{note}"


def _points(change: list[float]) -> str:
    value, low, high = change
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def main() -> None:
    """Measure and print; with --write keep the results and fill the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    bundled = [m for m, c in cards().items() if c.bundled]
    parser.add_argument("--models", default=",".join(bundled), help="ids, with commas between")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--keep-gptq", action="store_true", help="do not measure GPTQ again")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for model in given.models.split(","):
        before = next((r["gptq"] for r in rows if r["model"] == model), None)
        found = measure(model, before if given.keep_gptq else None)
        print(json.dumps(found), flush=True)
        rows = sorted([found, *(r for r in rows if r["model"] != model)], key=lambda r: r["model"])
        if given.write:
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    if given.write:
        replace_section("smallest", table(rows), BENCHMARKS)


if __name__ == "__main__":
    main()
