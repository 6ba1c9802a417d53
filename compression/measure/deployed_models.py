"""What a run ships to other engines: its graphs, how they predict, and how fast they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from compression.catalogue.backends import EAGER, INT8, ONNX
from compression.data.splits import Split, batches
from compression.errors import NotExportable
from compression.export.onnx.sessions import predict_with, session
from compression.measure.accuracy import Predictions, agreement
from compression.measure.backend_timing import (
    DeployableModel,
    Pair,
    ReportFraction,
    Timed,
    analyse_speedups,
    deployable,
    time_pair,
    work_of,
)
from compression.measure.machine_peaks import machine_peaks
from compression.measure.speedup_analysis import Workload
from compression.models.activation_memory import images_at_once
from compression.models.target import Target
from compression.recipe.recipe import Recipe
from compression.runs.durations.stages import INT8_GRAPH, LATENCY
from compression.runs.results import Exported, SpeedupAnalysis, Timing
from compression.runs.statistics import proportion

CALIBRATION_IMAGES, NOISE_IMAGES = 256, 8
Stage = Callable[[str], ReportFraction]


@dataclass(frozen=True)
class DeployedLatency:
    """How fast both models run elsewhere; `main` is the timing that a run's latency is of, and
    `missing` says why a backend has none."""

    main: Timing
    timings: tuple[Timing, ...]
    speedups: tuple[SpeedupAnalysis, ...]
    missing: dict[str, str]
    cores: tuple[int, ...]


@dataclass(frozen=True)
class Deployed:
    """How both models run elsewhere."""

    latency: DeployedLatency
    exported: tuple[Exported, ...]
    onnx_bytes: Pair[int | None]
    int8_bytes: int | None


@dataclass(frozen=True)
class DeployablePair(Pair[DeployableModel]):
    """The original and the compressed model, ready to run. `macs` are for one image, where known;
    `quantized` says whether the int8 graph is timed, too."""

    macs: Pair[int | None]
    quantized: bool


def pair_of(
    target: Target,
    model: nn.Module,
    macs: Pair[int | None],
    recipe: Recipe,
) -> DeployablePair:
    """The target's original and its compressed `model`, with ordinary weights.

    Args:
        target: what the recipe was applied to.
        model: the compressed model, as its file has it.
        macs: of the original and the compressed model for one image, where they are known.
        recipe: what was done.
    """
    images = calibration_images(target)
    original = deployable(target.model, target.structure, images)
    compressed = deployable(model, target.base.structure, images)
    return DeployablePair(original, compressed, macs, recipe.quantizes)


def works(pair: DeployablePair, images: Tensor, *, int8: bool) -> Pair[Workload]:
    """What both models do for prepared images [n, 3, h, w]; with `int8`, also which layers stay in
    float32 there."""
    return Pair(
        work_of(pair.original, pair.macs.original, images),
        work_of(pair.compressed, pair.macs.compressed, images, int8=int8),
    )


def calibration_images(target: Target) -> Tensor:
    """Prepared images [n, c, h, w] to calibrate an int8 graph on.

    Where there are none, it is a little noise, by which only times are right.
    """
    return target.images(CALIBRATION_IMAGES if target.data else NOISE_IMAGES, "calibration")


def deploy(
    pair: DeployablePair,
    image: Tensor,
    *,
    device: str,
    stage: Stage,
    split: Split | None = None,
    measured: Predictions | None = None,
) -> Deployed:
    """Time a pair, and see how its int8 graph predicts.

    Args:
        pair: both models, ready to run.
        image: one prepared image [1, 3, h, w], which is timed.
        device: `cpu` or `cuda`, where it is timed.
        stage: begins a stage of that name, and gives what is told the fraction done.
        split: what the int8 graph predicts.
        measured: the compressed model's predictions on the same images.

    Raises:
        NotExportable: not even PyTorch can run the models.
    """
    latency = time_deployed(pair, image, device=device, stage=stage)
    ran = {t.backend for t in latency.timings}
    exported = []
    if ONNX in ran:
        exported.append(_float(pair.compressed))
    if INT8 in ran:
        exported.append(_int8(pair.compressed, split, measured, stage))
    sizes = {file.format: file.file_bytes for file in exported}
    return Deployed(
        latency=latency,
        exported=tuple(exported),
        onnx_bytes=Pair(_bytes(pair.original) if ONNX in ran else None, sizes.get(ONNX)),
        int8_bytes=sizes.get(INT8),
    )


def time_deployed(
    pair: DeployablePair, image: Tensor, *, device: str, stage: Stage
) -> DeployedLatency:
    """Time a pair: in ONNX Runtime on a CPU where both models run there as in PyTorch, else in
    PyTorch.

    Args:
        pair: both models, ready to run.
        image: one prepared image [1, 3, h, w], which is timed.
        device: `cpu` or `cuda`, where it is timed.
        stage: begins a stage of that name, and gives what is told the fraction done.

    Raises:
        NotExportable: not even PyTorch can run the models.
    """
    timed = _timed(pair, image, device, stage(LATENCY))
    work = works(pair, image, int8=any(t.backend == INT8 for t in timed.timings))
    machine = machine_peaks(1) if device == "cpu" else None
    return DeployedLatency(
        main=next(t for t in timed.timings if t.backend != INT8),
        timings=timed.timings,
        speedups=analyse_speedups(timed.timings, work, machine),
        missing=timed.missing,
        cores=timed.cores,
    )


def _timed(pair: DeployablePair, image: Tensor, device: str, tell: ReportFraction) -> Timed:
    wanted = (ONNX, INT8) if pair.quantized else (ONNX,)
    timed = Timed((), {})
    if device == "cpu":
        timed = time_pair(pair.original, pair.compressed, wanted, image, tell=tell)
    if all(t.backend != ONNX for t in timed.timings):
        missing = timed.missing
        timed = time_pair(pair.original, pair.compressed, (EAGER,), image, device=device, tell=tell)
        if not timed.timings:
            raise NotExportable(f"latency: {timed.missing[EAGER]}")
        timed = replace(timed, missing=missing)
    return timed


def _bytes(model: DeployableModel) -> int:
    return int(model.subject.float_graph().ByteSize())


def _float(model: DeployableModel) -> Exported:
    return Exported(format=ONNX, file_bytes=_bytes(model), difference=model.difference())


def _int8(
    model: DeployableModel, split: Split | None, measured: Predictions | None, stage: Stage
) -> Exported:
    int8 = model.int8()
    exported = Exported(format=INT8, file_bytes=int8.graph.ByteSize(), notes=int8.notes)
    if split is None or measured is None:
        note = (
            "Its scales were calibrated on noise, because there are no images: only its latency is "
            "meaningful."
        )
        return exported.model_copy(update={"notes": (*int8.notes, note)})
    tell = stage(INT8_GRAPH)
    size = images_at_once(model.subject.model, split.head(1).prepared())
    running = session(int8.graph, torch.get_num_threads())
    logits = []
    for done, (images, _) in enumerate(batches(split, size), 1):
        logits.append(predict_with(running, images, size))
        tell(min(1.0, done * size / len(split)))
    predictions = Predictions(torch.cat(logits), measured.labels)
    right = proportion(int(predictions.right.sum()), len(predictions.labels))
    apart = float((predictions.logits - measured.logits).abs().max() / measured.logits.abs().max())
    same = agreement(predictions, measured)
    return exported.model_copy(update={"difference": apart, "agreement": same, "top1": right})
