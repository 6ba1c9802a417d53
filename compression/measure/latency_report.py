"""All there is to say of a run's latency, measured on request."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from compression.catalogue.backends import BACKENDS, EAGER, INT8, ONNX, DType
from compression.errors import InvalidInput
from compression.export.backends import available, why_not
from compression.measure.backend_timing import (
    Pair,
    Timed,
    analyse_speedups,
    threads_available,
    time_pair,
)
from compression.measure.cpu_pinning import pinned
from compression.measure.deployed_models import (
    DeployablePair,
    pair_of,
    works,
)
from compression.measure.layer_profile import in_pytorch, in_runtime, side_by_side
from compression.measure.machine_peaks import cpu_name, machine_peaks
from compression.measure.speedup_analysis import SpeedupCase, too_small
from compression.models.target import Target
from compression.runs.format import busy_note
from compression.runs.results import (
    LatencyReport,
    LayerTime,
    Run,
    Timing,
)

BATCHES = (1, 8)
MOST_IMAGES = 256
Tell = Callable[[str, float], None]


@dataclass(frozen=True)
class Plan:
    """What to time: in which backends, and with which batch sizes and threads; the first of each
    is what backends and layers are compared at."""

    backends: tuple[str, ...]
    batches: tuple[int, ...]
    threads: tuple[int, ...]
    swept: tuple[str, ...]


def plan(
    quantized: bool,
    device: str = "cpu",
    *,
    backends: Sequence[str] | None = None,
    batches: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
) -> Plan:
    """What to time on a device: all that can be, for what is not given.

    Args:
        quantized: whether the compressed model is, so that int8 backends are of interest.
        device: `cpu` or `cuda`.
        backends: their ids.
        batches: numbers of images in a call.
        threads: numbers of threads.

    Raises:
        InvalidInput: a backend that is not here, or a number of images or threads that cannot be.
    """
    most = threads_available()
    chosen = tuple(dict.fromkeys(available(device) if backends is None else backends))
    for name in chosen:
        if name not in BACKENDS:
            raise InvalidInput("backends", name, ", ".join(BACKENDS))
        if why := why_not(name, device):
            raise InvalidInput("backends", name, f"{', '.join(available(device))} ({why})")
    if backends is None and not quantized:
        chosen = tuple(n for n in chosen if BACKENDS[n].dtype is not DType.INT8)
    swept = [n for n in chosen if not BACKENDS[n].slow]
    if backends is None and device == "cpu":
        swept = [n for n in swept if n in (ONNX, INT8)]
    tried = tuple(dict.fromkeys(batches or BATCHES))
    by = tuple(dict.fromkeys(threads or ((1, most) if most > 1 and device == "cpu" else (1,))))
    for field, given, limit in (("batches", tried, MOST_IMAGES), ("threads", by, most)):
        for number in given:
            if not 1 <= number <= limit:
                raise InvalidInput(field, number, f"whole numbers from 1 to {limit}")
    return Plan(chosen, tried, by, tuple(swept))


def report(
    run: Run, target: Target, model: nn.Module, wanted: Plan, *, tell: Tell | None = None
) -> LatencyReport:
    """Measure a run's model against the original. Takes a minute or more.

    Args:
        run: a finished run.
        target: what its recipe was applied to, on the device to measure on.
        model: the compressed model, as the run's file has it.
        wanted: what to time, see `plan`.
        tell: gets a stage and the fraction of it that is done.
    """
    device = target.device
    macs = Pair(
        run.baseline.macs if run.baseline else target.macs,
        run.compressed.macs if run.compressed else None,
    )
    pair = pair_of(target, model, macs, run.recipe)
    tell = tell or (lambda _stage, _done: None)
    time = partial(time_pair, pair.original, pair.compressed, device=device)
    batch, threads = wanted.batches[0], wanted.threads[0]
    first = time(
        wanted.backends,
        _images(target, batch),
        threads=threads,
        tell=partial(tell, "Timing backends"),
    )
    sweep, failed = _sweep(wanted, target, first, time, tell)
    tell("Timing layers", 0.0)
    layers, layers_backend = _layers(pair, first, _images(target, batch), device)
    int8 = any(BACKENDS[t.backend].dtype is DType.INT8 for t in first.timings)
    work = works(pair, _images(target, batch), int8=int8)
    machines = {t: machine_peaks(t) for t in wanted.threads} if device == "cpu" else {}
    return LatencyReport(
        timings=first.timings,
        accounts=analyse_speedups(first.timings, work, machines.get(threads)),
        sweep=sweep,
        layers=layers,
        layers_backend=layers_backend,
        roofs=tuple(r for m in machines.values() for r in m.roofs(_moved(layers))),
        environment=_environment(device, first),
        notes=(
            *_busy((*first.timings, *sweep)),
            *_missing(first, failed, device),
            *_profiled(layers, first, layers_backend),
            *_shared(pair, target, sweep),
        ),
    )


def _images(target: Target, count: int) -> Tensor:
    return target.images(count, "validation")


def _sweep(
    wanted: Plan, target: Target, first: Timed, time: Callable[..., Timed], tell: Tell
) -> tuple[tuple[Timing, ...], dict[str, str]]:
    """Timings for every batch size and number of threads; why some failed."""
    cells = [(batch, threads) for threads in wanted.threads for batch in wanted.batches]
    timings = [t for t in first.timings if t.backend in wanted.swept]
    failed: dict[str, str] = {}
    names = tuple(n for n in wanted.swept if n not in first.missing)
    for at, (batch, threads) in enumerate(cells[1:]):
        tell("Timing batches and threads", at / len(cells[1:]))
        timed = time(names, _images(target, batch), threads=threads)
        timings += timed.timings
        failed |= {f"{BACKENDS[n].title}, batch {batch}": why for n, why in timed.missing.items()}
    return tuple(timings), failed


def _layers(
    pair: DeployablePair, timed: Timed, images: Tensor, device: str
) -> tuple[tuple[LayerTime, ...], str]:
    """Both models' layers and the backend that they were timed in, on one thread."""
    ran = {t.backend for t in timed.timings}
    backend = next((n for n in (INT8, ONNX) if n in ran), EAGER if device == "cpu" else None)
    if backend is None:
        return (), ""
    work = works(pair, images, int8=backend == INT8)
    names = [work.original.layers, work.compressed.layers]
    with pinned(1):
        if backend == EAGER:
            models = [f.subject.model.eval() for f in (pair.original, pair.compressed)]
            spent = in_pytorch(models, images)
        else:
            after = pair.compressed.subject
            graph = after.int8_graph() if backend == INT8 else after.float_graph()
            spent = in_runtime([pair.original.subject.float_graph(), graph], names, images)
    sizes = {n: 4 if why else 1 for n, why in work.compressed.floats.items()}
    return side_by_side(spent, names, ({}, sizes)), backend


def _moved(layers: Sequence[LayerTime]) -> int:
    return sum(layer.compressed_bytes or 0 for layer in layers)


def _busy(timings: Sequence[Timing]) -> tuple[str, ...]:
    return (busy_note(),) if any(t.compressed.on_busy_machine for t in timings) else ()


def _missing(first: Timed, failed: dict[str, str], device: str) -> tuple[str, ...]:
    """Why something is not there: what cannot run here, and what would not run this model."""
    here = {n: b for n, b in BACKENDS.items() if device in b.devices}
    reasons = {b.title: why for n, b in here.items() if (why := why_not(n, device))}
    reasons |= {BACKENDS[n].title: why for n, why in first.missing.items()} | failed
    lines = [f"Not timed in {title}: {why}." for title, why in reasons.items()]
    return (*lines, *(("Layers are timed on a CPU only.",) if device != "cpu" else ()))


def _shared(pair: DeployablePair, target: Target, sweep: Sequence[Timing]) -> tuple[str, ...]:
    """Where more threads help the compressed model less than the original."""
    alone = {(t.backend, t.compressed.batch): t for t in sweep if t.compressed.threads == 1}
    lines = []
    for timing in sweep:
        batch = timing.compressed.batch
        single = alone.get((timing.backend, batch))
        if timing.compressed.threads == 1 or single is None:
            continue
        work = works(pair, _images(target, batch), int8=False)
        case = SpeedupCase(timing, work.original, work.compressed, alone=single)
        if sentence := too_small(case):
            lines.append(f"{BACKENDS[timing.backend].title}, batch {batch}: {sentence}")
    return tuple(lines)


def _profiled(layers: Sequence[LayerTime], timed: Timed, backend: str) -> tuple[str, ...]:
    """How much more the layers take together than a call does: profiling takes time too."""
    whole = next((t.compressed for t in timed.timings if t.backend == backend), None)
    together = sum(layer.compressed_ms or 0.0 for layer in layers)
    if whole is None or whole.threads != 1 or together <= whole.p50_ms:
        return ()
    return (
        f"Profiling slows layers down: they add up to {together:.3g} ms; a call takes "
        f"{whole.p50_ms:.3g} ms.",
    )


def _environment(device: str, timed: Timed) -> dict[str, Any]:
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "cores": os.cpu_count(),
        "latency_cores": list(timed.cores),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
