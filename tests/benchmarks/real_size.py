"""Memory and seconds at 224 px: `python -m tests.benchmarks.real_size [--write]`.

Each method compresses each model of torchvision, with 1,000 classes and random weights, on the same
prepared images, in a process of its own. Neither memory nor time depends on what the weights are.
NNCF (`--group peers`) does what it has a counterpart for. What the results hold is not run
again; `--again` does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from compression.data.preparation import Preparation
from compression.data.splits import Dataset, Split
from compression.methods.pipeline import compress
from compression.models.target import Target
from compression.paths import configure_process
from compression.recipe.presets import apply_preset
from compression.recipe.recipe import Recipe, parse
from tests.benchmarks.costs import machine
from tests.readme import BENCHMARKS, markdown_table, replace_section

RESULTS = Path(__file__).with_suffix(".json")
MODELS = ("mobilenet_v2", "efficientnet_b0", "resnet50", "convnext_tiny", "swin_t", "vit_b_16")
SHAPE, CLASSES = (3, 224, 224), 1000
# By the names of the table: preset and steps.
CELLS: dict[str, tuple[str, tuple[dict[str, Any], ...]]] = {
    "W8A8, fast": ("fast", ({"step": "quantize", "bits": 8, "activation_bits": 8},)),
    "W4, better": ("better", ({"step": "quantize", "bits": 4},)),
    "80 % zeros, better": ("better", ({"step": "prune", "sparsity": 0.8},)),
    "half the channels": (
        "fast",
        ({"step": "prune", "sparsity": 0.5, "pattern": "channels", "score": "taylor"},),
    ),
    "W4, best": ("best", ({"step": "quantize", "bits": 4},)),
}
NNCF = "W8A8, NNCF"
METHODS = (NNCF, *CELLS)


def photographs(count: int) -> Tensor:
    """Smooth noise as large as photographs: uint8 [count, 3, 224, 224]."""
    generator = torch.Generator().manual_seed(0)
    images = torch.empty(count, *SHAPE, dtype=torch.uint8)
    for at in range(0, count, 10):
        coarse = 256 * torch.rand(len(images[at : at + 10]), 3, 28, 28, generator=generator)
        images[at : at + 10] = nn.functional.interpolate(coarse, size=224, mode="bilinear")
    return images


def data(count: int) -> Dataset:
    """So many images to calibrate on; few of the others."""
    preparation = Preparation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), size=SHAPE[1])
    split = Split("calibration", photographs(count), torch.arange(count), preparation)
    few = split.head(100)
    return Dataset("noise", tuple(map(str, range(CLASSES))), split, split, few, few)


def _model(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=CLASSES)
    return model.eval()


def _ours(name: str, method: str, images: Dataset) -> Callable[[], object]:
    preset, steps = CELLS[method]
    recipe = parse(Recipe, {"steps": [apply_preset(preset, dict(step)) for step in steps]})
    target = Target(_model(name), SHAPE, images, name, architecture=name)
    return lambda: compress(target, recipe)


def _nncf(name: str, images: Dataset) -> Callable[[], object]:
    import nncf

    split, model = images.calibration, _model(name)
    batches = [split.part(at, at + 1) for at in range(len(split))]
    dataset = nncf.Dataset(batches, lambda part: part.prepared())
    return lambda: nncf.quantize(model, dataset, subset_size=len(split))


def measure(name: str, method: str, count: int) -> dict[str, Any]:
    """Compress in this process; its peak memory in MiB, libraries and images included."""
    images = data(count)
    work = _nncf(name, images) if method == NNCF else _ours(name, method, images)
    before = _peak()
    started = time.perf_counter()
    work()
    return {
        "model": name,
        "method": method,
        "images": count,
        "seconds": round(time.perf_counter() - started, 1),
        "mib_before": before,
        "mib": _peak(),
    }


def _peak() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def table(results: list[dict[str, Any]]) -> str:
    """A row a model: peak memory and seconds of each method, in brackets how many times NNCF's."""
    known = {(r["model"], r["method"]): r for r in results}
    rows = []
    for model in MODELS:
        peer = known.get((model, NNCF))
        cells = [_cell(known.get((model, method)), peer) for method in METHODS]
        if any(cells):
            rows.append((f"`{model}`", *cells))
    return markdown_table(("", *METHODS), rows)


def _cell(result: dict[str, Any] | None, peer: dict[str, Any] | None) -> str:
    if result is None:
        return ""
    if "reason" in result:
        return str(result["reason"])
    text = f"{result['mib'] / 1024:.2f} GiB, {result['seconds']:.0f} s"
    if peer is None or peer is result or "mib" not in peer:
        return text
    return f"{text} ({result['mib'] / peer['mib']:.2f}×)"


def _child(name: str, method: str, count: int, threads: int) -> dict[str, Any]:
    arguments = ["--child", method, "--models", name, "--images", str(count)]
    command = [sys.executable, "-m", __spec__.name, *arguments, "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "COMPRESSION_CACHE": os.devnull}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    try:
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return {"model": name, "method": method, "images": count, "reason": said[:120]}
    return result


def main() -> None:
    """Measure what is missing and print the table; with --write into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="with commas between")
    parser.add_argument("--methods", default=";".join(METHODS), help="with semicolons between")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="measure what is there, too")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        configure_process()
        torch.set_num_threads(given.threads)
        print(json.dumps(measure(given.models, given.child, given.images)))
        return
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = {(r["model"], r["method"]): r for r in document.get("results", [])}
    for model in given.models.split(","):
        for method in given.methods.split(";"):
            if given.again or (model, method) not in results:
                result = _child(model, method, given.images, given.threads)
                print(json.dumps(result), flush=True)
                results[model, method] = result
                document |= {"machine": machine(), "results": list(results.values())}
                RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    text = table(list(results.values()))
    print(text)
    if given.write:
        replace_section("real-size", text, BENCHMARKS)


if __name__ == "__main__":
    main()
