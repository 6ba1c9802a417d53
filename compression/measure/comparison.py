"""A compressed model against its original: the figures, what they were taken on, what to know."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import onnxruntime
import torch
from torch import nn

from compression.errors import CompressionError, NotExportable
from compression.export.packed.file import pack, unpack
from compression.export.packed.input_grids import input_state
from compression.measure.accuracy import (
    Comparison,
    Predictions,
    compare,
    original_predictions,
    predict,
)
from compression.measure.backend_timing import Pair
from compression.measure.deployed_models import DeployedLatency, deploy, pair_of
from compression.measure.machine_peaks import cpu_name
from compression.measure.notes import latency_notes, notes
from compression.measure.size import Sizes, measure_sizes, original_sizes
from compression.models.input_quantizers import input_grids
from compression.models.load import count_macs
from compression.models.parametrize import materialize
from compression.models.target import Target
from compression.models.widths import widths
from compression.recipe.recipe import Recipe
from compression.runs.durations.stages import ACCURACY, PACKING
from compression.runs.progress import Report, stage
from compression.runs.results import (
    Delta,
    Exported,
    Latency,
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
    speedups: tuple[SpeedupAnalysis, ...]
    exported: tuple[Exported, ...]
    packed: bytes  # the file that was measured


def measure(
    target: Target, model: nn.Module, recipe: Recipe, *, report: Report | None = None
) -> Figures:
    """Pack a model, load the file back, and measure what was loaded against the original.

    Args:
        target: what the recipe was applied to, and where and on which images to measure.
        model: the compressed model with its masks and grids, on the CPU.
        recipe: how it was made.
        report: called often with how far it is; what it raises ends the work.

    Raises:
        NotExportable: the model's architecture has no name that a file could be rebuilt from.
        CompressionError: the packed file does not load back bit for bit.
    """
    tell = stage(report, PACKING)
    packed = pack_result(target, model, recipe)
    tell(0.3)
    unpacked = unpack(packed)
    tell(0.5)
    if not _same(unpacked, materialize(model)):
        raise CompressionError(f"model {target.name}: its file does not load back bit for bit")
    sizes = measure_sizes(model, packed, original_parameters=target.parameters)
    tell(1.0)
    return _measure(target, unpacked, packed, sizes, recipe, report)


def measure_file(
    target: Target,
    packed: bytes,
    recipe: Recipe,
    *,
    entropy_bound_bytes: int | None = None,
    report: Report | None = None,
) -> Figures:
    """Measure a packed file against the original, as it is.

    Args:
        target: what the recipe was applied to, and where and on which images to measure.
        packed: the file.
        recipe: how it was made.
        entropy_bound_bytes: of the same file, where that is known from when it was packed. If
            not, it is that of its weights without their grids.
        report: called often with how far it is; what it raises ends the work.

    Raises:
        ArtifactError: the file is foreign or damaged.
    """
    tell = stage(report, "Unpacking")
    unpacked = unpack(packed)
    sizes = measure_sizes(unpacked, packed, original_parameters=target.parameters)
    if entropy_bound_bytes is not None:
        sizes = replace(sizes, entropy_bound_bytes=entropy_bound_bytes)
    tell(1.0)
    return _measure(target, unpacked, packed, sizes, recipe, report)


def pack_result(target: Target, model: nn.Module, recipe: Recipe) -> bytes:
    """The packed file of a recipe's compressed model.

    Raises:
        NotExportable: the model's architecture has no name that a file could be rebuilt from.
    """
    base = target.base
    if base.architecture is None:
        raise NotExportable(f"model {base.name}: a packed file needs the name of its architecture")
    details = {"model": target.name, "recipe": recipe.brief}
    return pack(model, architecture=base.architecture, classes=base.classes, details=details)


def _measure(
    target: Target,
    model: nn.Module,
    packed: bytes,
    sizes: Sizes,
    recipe: Recipe,
    report: Report | None,
) -> Figures:
    """Measure the unpacked `model`, which is nobody else's."""
    original = original_sizes(target)
    model = model.to(memory_format=torch.channels_last)
    predictions = _predict(target, model, report)
    accuracy = compare(predictions.original, predictions.compressed) if predictions else None
    macs = Pair(target.macs, _macs(target, model))
    deployed = deploy(
        pair_of(target, model, macs, recipe),
        target.images(1),
        device=target.device,
        stage=partial(stage, report),
        split=target.measured,
        measured=predictions.compressed if predictions else None,
    )
    timed = deployed.latency
    main = timed.main
    return Figures(
        baseline=_measurement(
            original,
            accuracy.before if accuracy else None,
            macs.original,
            main.baseline,
            deployed.onnx_bytes.original,
        ),
        compressed=_measurement(
            sizes,
            accuracy.after if accuracy else None,
            macs.compressed,
            main.compressed,
            deployed.onnx_bytes.compressed,
            deployed.int8_bytes,
        ),
        delta=_delta(accuracy, original.artifact_bytes / sizes.artifact_bytes, main),
        environment=_environment(target, packed) | latency_environment(target, timed),
        notes=(
            *latency_notes(recipe, main, timed.timings, timed.missing),
            *notes(target, recipe),
        ),
        timings=timed.timings,
        speedups=timed.speedups,
        exported=deployed.exported,
        packed=packed,
    )


def _predict(target: Target, model: nn.Module, report: Report | None) -> Pair[Predictions] | None:
    """Both models' predictions on the same images, if there are any."""
    split = target.measured
    if split is None:
        return None
    original = original_predictions(target, split, report)
    tell = stage(report, ACCURACY)
    return Pair(original, predict(model, split, target.device, tell))


def _macs(target: Target, model: nn.Module) -> int | None:
    if target.student is None and widths(model) == widths(target.model):
        return target.macs
    return count_macs(model, target.input_shape)


def _measurement(
    sizes: Sizes,
    top1: Interval | None,
    macs: int | None,
    latency: Latency,
    onnx_bytes: int | None,
    int8_bytes: int | None = None,
) -> Measurement:
    return Measurement(
        **asdict(sizes),
        top1=top1,
        macs=macs,
        latency=latency,
        onnx_bytes=onnx_bytes,
        int8_bytes=int8_bytes,
    )


def _delta(accuracy: Comparison | None, size_ratio: float, main: Timing) -> Delta:
    return Delta(
        top1=accuracy.change if accuracy else None,
        flips=accuracy.flips if accuracy else None,
        agreement=accuracy.agreement if accuracy else None,
        size_ratio=size_ratio,
        latency_ratio=main.ratio,
    )


def _same(a: nn.Module, b: nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    left |= input_state(input_grids(a))
    right |= input_state(input_grids(b))
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def _environment(target: Target, packed: bytes) -> dict[str, Any]:
    weights = f"{target.card.file} {target.card.date}".strip() if target.card else target.name
    return {
        "weights": weights,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "split": target.split,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "artifact_sha256": hashlib.sha256(packed).hexdigest(),
    }


def latency_environment(target: Target, timed: DeployedLatency) -> dict[str, Any]:
    """Where a run's latency was measured, and what the original gave against itself."""
    return {
        "device": torch.cuda.get_device_name() if target.device == "cuda" else cpu_name(),
        "cores": os.cpu_count(),
        "onnxruntime": onnxruntime.__version__,
        "latency_control": timed.main.control.model_dump(),
        "latency_cores": list(timed.cores),
    }
