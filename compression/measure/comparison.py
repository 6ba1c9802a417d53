"""A compressed model against its original: the figures, what they were taken on, what to know."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Any

import onnxruntime
import torch
from torch import nn

from compression.catalogue.cards import Card, card, student_of
from compression.errors import CompressionError
from compression.export.packed.file import pack, unpack
from compression.export.packed.input_grids import input_state
from compression.measure.accuracy import Predictions, compare, predict
from compression.measure.deployed_models import (
    Deployed,
    deploy,
    noise,
    pair_of,
)
from compression.measure.machine_peaks import cpu_name
from compression.measure.notes import notes
from compression.measure.size import Sizes, measure_sizes
from compression.models.data import load_dataset, prepare
from compression.models.input_quantizers import input_grids
from compression.models.load import count_macs, original_of
from compression.models.parametrize import materialize
from compression.models.widths import widths
from compression.paths import cache_dir, write_cached
from compression.recipe.recipe import Recipe
from compression.runs.progress import Report, stage
from compression.runs.results import (
    Delta,
    Exported,
    Measurement,
    SpeedupAnalysis,
    Timing,
)
from compression.runs.statistics import Interval


@dataclass(frozen=True)
class Figures:
    """All that measuring gives to a run."""

    baseline: Measurement
    compressed: Measurement
    delta: Delta
    environment: dict[str, Any]
    notes: tuple[str, ...]
    timings: tuple[Timing, ...]
    accounts: tuple[SpeedupAnalysis, ...]
    exported: tuple[Exported, ...]
    packed: bytes  # the file that was measured


# What is known of an original does not change while the process lives.


@lru_cache(maxsize=4)
def _original_sizes(model_id: str) -> Sizes:
    """Kept in the cache folder too: gzip alone takes seconds for a large model."""
    found = card(model_id)
    name = hashlib.sha256(f"{found.id}|{found.file}|{found.date}".encode()).hexdigest()[:16]
    path = cache_dir() / "originals" / f"{name}.json"
    with suppress(OSError, ValueError, TypeError):
        return Sizes(**json.loads(path.read_text()))
    sizes = measure_sizes(original_of(model_id), b"", original_parameters=found.parameters)
    # The original always counts as its float32 state dict, however it happens to be stored.
    bits = 8 * sizes.dense_bytes / found.parameters
    sizes = replace(sizes, artifact_bytes=sizes.dense_bytes, bits_per_weight=bits)
    with suppress(OSError):
        write_cached(path, json.dumps(asdict(sizes)).encode())
    return sizes


_predictions: dict[tuple[str, str, str], Predictions] = {}


def _original_predictions(
    model_id: str, split: str, device: str, report: Report | None
) -> Predictions:
    key = (model_id, split, device)
    if key not in _predictions:
        tell = stage(report, "Measuring the original")
        data = load_dataset(str(card(model_id).dataset))
        _predictions[key] = predict(original_of(model_id), data.split(split), device, tell)
        original_of(model_id).to("cpu")
    return _predictions[key]


def measure(
    model_id: str,
    model: nn.Module,
    recipe: Recipe,
    *,
    device: str = "cpu",
    split: str = "validation",
    report: Report | None = None,
) -> Figures:
    """Pack `model`, load the file back, and measure what was loaded against the original.

    Raises:
        CompressionError: the packed file does not load back bit for bit.
    """
    found, shape = card(model_id), student_of(card(model_id), recipe)
    tell = stage(report, "Packing")
    details = {"model": found.id, "recipe": recipe.brief}
    packed = pack(model, architecture=shape.architecture, classes=shape.classes, details=details)
    tell(0.3)
    shipped = unpack(packed)
    tell(0.5)
    if not _same(shipped, materialize(model)):
        raise CompressionError(f"model {found.id}: its packed file does not load back bit for bit")
    sizes = measure_sizes(model, packed, original_parameters=found.parameters)
    before = _original_sizes(model_id)
    tell(1.0)
    answers = _answers(model_id, shipped, split, device, report) if found.dataset else None
    accuracy = compare(*answers) if answers else None
    top1 = (accuracy.before, accuracy.after) if accuracy else (None, None)
    narrower = shape != found or widths(shipped) != widths(original_of(model_id))
    macs = count_macs(shipped, found.input_shape) if narrower else found.macs
    own = answers[1] if answers else None
    deployed = _deployed(found, shape, shipped, recipe, macs, own, split, device, report)
    main = deployed.main
    return Figures(
        baseline=_measurement(before, found.macs, top1[0], deployed, 0),
        compressed=_measurement(sizes, macs, top1[1], deployed, 1),
        delta=Delta(
            top1=accuracy.change if accuracy else None,
            flips=accuracy.flips if accuracy else None,
            agreement=accuracy.agreement if accuracy else None,
            size_ratio=before.artifact_bytes / sizes.artifact_bytes,
            latency_ratio=main.ratio,
        ),
        environment=_environment(found, device, split, packed, deployed),
        notes=(*deployed.notes, *notes(found, recipe, main, deployed.timings)),
        timings=deployed.timings,
        accounts=deployed.accounts,
        exported=deployed.exported,
        packed=packed,
    )


def _answers(
    model_id: str, shipped: nn.Module, split: str, device: str, report: Report | None
) -> tuple[Predictions, Predictions]:
    """The original's answers and the compressed model's, to the same images."""
    before = _original_predictions(model_id, split, device, report)
    tell = stage(report, "Measuring accuracy")
    data = load_dataset(str(card(model_id).dataset))
    return before, predict(shipped, data.split(split), device, tell)


def _deployed(
    found: Card,
    shape: Card,
    shipped: nn.Module,
    recipe: Recipe,
    macs: int | None,
    measured: Predictions | None,
    split: str,
    device: str,
    report: Report | None,
) -> Deployed:
    images = load_dataset(found.dataset).split(split).images if found.dataset else None
    original = original_of(found.id)
    pair = pair_of((original, shipped), (found, shape), (found.macs, macs), recipe)
    result = deploy(
        pair,
        noise(found, 1) if images is None else prepare(images[:1]),
        device=device,
        stage=partial(stage, report),
        images=images,
        measured=measured,
    )
    original.to("cpu")
    return result


def _measurement(
    sizes: Sizes, macs: int | None, top1: Interval | None, deployed: Deployed, which: int
) -> Measurement:
    return Measurement(
        top1=top1,
        parameters=sizes.parameters,
        nonzero=sizes.nonzero,
        sparsity=sizes.sparsity,
        macs=macs,
        artifact_bytes=sizes.artifact_bytes,
        dense_bytes=sizes.dense_bytes,
        gzip_bytes=sizes.gzip_bytes,
        entropy_bound_bytes=sizes.entropy_bound_bytes,
        bits_per_weight=sizes.bits_per_weight,
        latency=(deployed.main.baseline, deployed.main.compressed)[which],
        onnx_bytes=deployed.onnx_bytes[which],
        int8_bytes=deployed.int8_bytes if which else None,
    )


def _same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    left |= input_state(input_grids(a))
    right |= input_state(input_grids(b))
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def _environment(
    found: Card, device: str, split: str, packed: bytes, deployed: Deployed
) -> dict[str, Any]:
    return {
        "weights": f"{found.file} {found.date}".strip(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "split": split,
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "artifact_sha256": hashlib.sha256(packed).hexdigest(),
        "latency_control": deployed.main.control.model_dump(),
        "latency_cores": list(deployed.cores),
    }
