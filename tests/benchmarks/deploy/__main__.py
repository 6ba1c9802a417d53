"""Time of one call, in turns in one process, for every model and engine; sizes of the files.

`python -m tests.benchmarks.deploy [--models A,B] [--batch N] [--threads N] [--write]` (with the
group `peers`). A model measured again replaces what `results.json` has of it; --write puts the
tables into the README.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from compression.catalogue.cards import card, cards
from compression.data.datasets import FASHION_MNIST, load_dataset
from compression.export.onnx.sessions import predict_with, session
from compression.export.packed.file import pack
from compression.measure.cpu_pinning import pinned
from compression.measure.interleaved_timer import time_interleaved
from compression.methods.pipeline import compress
from compression.methods.quantize.weight_ranges import mse
from compression.models.load import build
from compression.models.parametrize import (
    compressible,
    materialize,
    parametrize_weight,
    weight_of,
)
from compression.recipe.presets import apply_preset
from compression.recipe.recipe import Recipe, parse
from tests.benchmarks.costs import machine
from tests.benchmarks.deploy.engines import BASE, CALIBRATION, ENGINES, Case, make_ready
from tests.readme import BENCHMARKS, markdown_table, replace_section

RESULTS = Path(__file__).with_name("results.json")
# Latency does not depend on what the weights are.
RANDOM = ("resnet18", "resnet50", "mobilenet_v2")
PIXELS = 224
INT8 = {"step": "quantize", "bits": 8, "activation_bits": 8}


def names() -> list[str]:
    """Every model, the bundled ones first."""
    return [m for m, c in cards().items() if c.bundled] + [f"{n} at {PIXELS} px" for n in RANDOM]


def case_of(name: str, batch: int, threads: int) -> Case:
    """The model of that name, its int8 twin, and images."""
    if name in cards():
        found = card(name)
        recipe = parse(Recipe, {"steps": [apply_preset("better", INT8)]})
        images = FASHION_MNIST(load_dataset(str(found.dataset)).train.images[:CALIBRATION])
        original = compress(name, Recipe(), device="cpu").model
        made = compress(name, recipe, device="cpu").model
        return Case(name, found.architecture, original, made, images, batch, threads)
    architecture = name.split()[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _settled(build(architecture, 1000))
        images = torch.randn(CALIBRATION // 4, 3, PIXELS, PIXELS)
    made = copy.deepcopy(model)
    for _, layer in compressible(made):
        parametrize_weight(layer, None, mse(weight_of(layer), 8, True, True))
    return Case(name, architecture, model, made, images, batch, threads)


@torch.no_grad()
def _settled(model: nn.Module) -> nn.Module:
    """Statistics of batch normalisation as after training, so that nothing overflows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()(torch.randn(8, 3, PIXELS, PIXELS))
    return model.eval()


def measure(case: Case) -> dict[str, Any]:
    """Milliseconds and ratios of all engines, and bytes of the files."""
    torch.set_num_threads(case.threads)
    calls, missing = make_ready(case)
    with pinned(case.threads):
        seen = time_interleaved(list(calls.values()))
    at = {name: place for place, name in enumerate(calls)}
    return {
        "machine": machine(),
        "onnxruntime": onnxruntime.__version__,
        "batch": case.batch,
        "threads": case.threads,
        "busy": seen.load.others,
        "control": seen.control(at[BASE]).model_dump(),
        "missing": missing,
        "ready_seconds": {k: round(v, 2) for k, v in case.ready.items()},
        "ms": {n: seen.latency(i, n, case.threads, case.batch).p50_ms for n, i in at.items()},
        "ratio": {n: seen.ratio(at[BASE], i).model_dump() for n, i in at.items()},
        "bytes": _bytes(case),
        "agreement": _agreement(case) if case.name in cards() else None,
    }


def _bytes(case: Case) -> dict[str, int]:
    state = [t.float().contiguous() for t in materialize(case.quantized).state_dict().values()]
    raw = b"".join(t.numpy().tobytes() for t in state)
    found = {
        "float32": len(raw),
        "gzip": len(gzip.compress(raw, 6, mtime=0)),
        "int8 ONNX": case.int8.ByteSize(),
        "ours": _packed(case),
    }
    try:
        import zstandard

        found["zstd -19"] = len(zstandard.ZstdCompressor(level=19).compress(raw))
    except ImportError:
        pass
    return found


def _packed(case: Case) -> int:
    classes = card(case.name).classes if case.name in cards() else 1000
    said: dict[str, Any] = {}
    data = pack(case.quantized, architecture=case.architecture, classes=classes, details=said)
    return len(data)


def _agreement(case: Case) -> dict[str, float]:
    """Our int8 graph against the model it was made of, on the validation images."""
    split = load_dataset(str(card(case.name).dataset)).validation
    images = FASHION_MNIST(split.images)
    wanted = _labels(case.quantized, images)
    found = predict_with(session(case.int8, case.threads), images).argmax(1)
    right = [100 * float((x == split.labels).float().mean()) for x in (wanted, found)]
    same = float((wanted == found).float().mean())
    return {"same label": same, "top1 measured": right[0], "top1 of the file": right[1]}


@torch.inference_mode()
def _labels(model: nn.Module, images: Tensor) -> Tensor:
    model = copy.deepcopy(model)  # what is made in inference mode cannot be trained again
    return torch.cat([model(part).argmax(1) for part in images.split(500)])


def tables(found: dict[str, Any]) -> str:
    """Milliseconds and ratios; then bytes and agreement."""
    rows, sizes, notes = [], [], []
    for name in (n for n in names() if n in found):
        one = found[name]
        shown = [f"`{name.removeprefix('fashion-mnist/')}`"]
        for engine in ENGINES:
            if engine not in one["ms"]:
                reason = one["missing"].get(engine, "not measured")
                notes.append(f"`{name}`, {engine}: {reason}")
                shown.append("-")
                continue
            ratio = one["ratio"][engine]
            beside = "" if engine == BASE else f", {ratio['value']:.2f}x"
            shown.append(f"{one['ms'][engine]:.3g} ms{beside}")
        control = one["control"]
        rows.append([*shown, f"{control['low']:.2f} to {control['high']:.2f}"])
        bytes_, agreed = one["bytes"], one["agreement"]
        sizes.append(
            [
                shown[0],
                *(_size(bytes_.get(k)) for k in ("float32", "gzip", "zstd -19", "int8 ONNX")),
                f"{_size(bytes_['ours'])}, {bytes_['float32'] / bytes_['ours']:.2f}x",
                f"{100 * agreed['same label']:.2f} %" if agreed else "",
                f"{agreed['top1 of the file'] - agreed['top1 measured']:+.2f}" if agreed else "",
            ]
        )
    first = markdown_table(("model", *ENGINES, "control"), rows, right=len(ENGINES) + 1)
    header = ("model", "float32", "gzip", "zstd -19", "int8 ONNX", "packed", "same label", "points")
    second = markdown_table(header, sizes, right=7)
    one = next(iter(found.values()))
    said = f"{one['machine']}, batch {one['batch']}, {one['threads']} thread(s)."
    return "\n\n".join([first, *([f"{'; '.join(notes)}."] if notes else []), said, second])


def _size(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e6:.3g} MB" if count >= 1e6 else f"{count / 1e3:.3g} kB"


def main() -> None:
    """Measure what was asked for; print the tables; with --write put them into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(names()), help="names, with commas between")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in filter(None, given.models.split(",")):
        found[name] = measure(case_of(name, given.batch, given.threads))
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        print(name, {k: round(v, 3) for k, v in found[name]["ms"].items()}, flush=True)
    text = tables(found)
    print(text)
    if given.write:
        replace_section("deploy", text, BENCHMARKS)


if __name__ == "__main__":
    main()
