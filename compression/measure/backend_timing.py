"""Original and compressed model in what can run them, timed interleaved."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

import onnx
import torch
from torch import Tensor, nn

from compression.catalogue.backends import BACKENDS
from compression.errors import CompressionError, NotExportable
from compression.export.backends import (
    RUNTIMES,
    BackendInput,
    Call,
    describe,
    forget_compiled,
)
from compression.export.onnx.float_graph import float_graph, ordinary
from compression.export.onnx.int8_graph import Int8, int8_graph
from compression.export.onnx.sessions import check
from compression.measure.cpu_pinning import torch_threads
from compression.measure.interleaved_timer import (
    TimingSession,
    on_cuda,
    on_wall,
    time_undisturbed,
)
from compression.measure.layer_profile import costs
from compression.measure.machine_peaks import MachinePeaks
from compression.measure.speedup_analysis import SpeedupCase, Workload, analyse_speedup
from compression.models.hooks import hooked, leaves
from compression.models.load import parameter_bytes
from compression.models.placement import evaluated, placed
from compression.runs.results import SpeedupAnalysis, Timing

# Largest difference of an exported graph's logits, relative to the largest logit.
TOLERANCE = 1e-3
MOST_BYTES = 2_000_000_000
ReportFraction = Callable[[float], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Pair(Generic[T]):
    """The same thing of both models that are compared."""

    original: T
    compressed: T


@dataclass(frozen=True)
class DeployableModel:
    """A model in the forms that it runs in. Graphs are made when first asked for, and kept.

    `difference` is the largest of the float32 graph's logits from PyTorch's, over the largest.
    """

    subject: BackendInput
    int8: Callable[[], Int8]
    difference: Callable[[], float]


def deployable(model: nn.Module, architecture: str, images: Tensor) -> DeployableModel:
    """A model ready to be brought into every form that it can run in.

    Args:
        model: weights and inputs may be on grids; it stays where it is, a copy comes to the CPU.
        architecture: names what the model is but for its weights and widths.
        images: prepared images [n, 3, h, w] that calibrate the int8 graph.
    """
    example = images[:1]
    model = evaluated(placed(model, "cpu", channels_last=False))
    free = ordinary(model)

    @cache
    def checked() -> tuple[onnx.ModelProto, float]:
        if parameter_bytes(free) > MOST_BYTES:
            raise NotExportable("its weights are more than the 2 GB that an ONNX file can hold")
        graph = float_graph(free, architecture, example)
        difference = check(graph, free, example)
        if not difference <= TOLERANCE:
            raise NotExportable("ONNX Runtime's logits differ from PyTorch's")
        return graph, difference

    @cache
    def int8() -> Int8:
        try:
            return int8_graph(model, architecture, example, images)
        except NotExportable:
            raise
        except CompressionError as error:
            raise NotExportable(str(error)) from error

    subject = BackendInput(free, lambda: checked()[0], lambda: int8().graph)
    return DeployableModel(subject, int8, lambda: checked()[1])


def work_of(
    forms: DeployableModel, macs: int | None, images: Tensor, *, int8: bool = False
) -> Workload:
    """What a model does for these images; `macs` are for one, of its layers if not given."""
    model = forms.subject.model
    started = 0

    def count(*_: object) -> None:
        nonlocal started
        started += 1

    with hooked(leaves(model), post=count):
        layers = costs(model, images)
    floats = dict(forms.int8().layers) if int8 else {}
    total = sum(c.macs for c in layers.values()) if macs is None else macs * len(images)
    return Workload(total, layers, max(started, 1), floats)


@dataclass(frozen=True)
class Timed:
    """Timings, and why a backend has none."""

    timings: tuple[Timing, ...]
    missing: dict[str, str]
    cores: tuple[int, ...] = ()


def time_pair(
    original: DeployableModel,
    compressed: DeployableModel,
    backends: Sequence[str],
    images: Tensor,
    *,
    threads: int = 1,
    device: str = "cpu",
    tell: ReportFraction | None = None,
) -> Timed:
    """Time the compressed model in each backend against the original in that backend's engine.

    Args:
        original: the original, ready to run.
        compressed: the compressed model, ready to run.
        backends: their ids; those of one engine are timed interleaved.
        images: one call's, prepared, [batch, 3, h, w].
        threads: that a call may use.
        device: `cpu` or `cuda`.
        tell: gets the fraction done.
    """
    groups: dict[str, list[str]] = {}
    for name in backends:
        groups.setdefault(BACKENDS[name].against, []).append(name)
    timings: list[Timing] = []
    missing: dict[str, str] = {}
    cores: tuple[int, ...] = ()
    for at, (against, names) in enumerate(groups.items()):

        def tell_part(done: float, at: int = at) -> None:
            if tell:
                tell((at + done) / len(groups))

        group = _Group(against, original, compressed, images, threads, device)
        timed, failed, cores = group.time(names, tell_part)
        timings += timed
        missing |= failed
    order = {name: i for i, name in enumerate(backends)}
    return Timed(tuple(sorted(timings, key=lambda t: order[t.backend])), missing, cores)


@dataclass(frozen=True)
class _Group:
    """Backends that are compared with the original in one of them."""

    against: str
    original: DeployableModel
    compressed: DeployableModel
    images: Tensor
    threads: int
    device: str

    def time(
        self, backends: Sequence[str], tell: ReportFraction
    ) -> tuple[tuple[Timing, ...], dict[str, str], tuple[int, ...]]:
        """Timings, why a backend has none, and the cores that it was done on."""
        if BACKENDS[self.against].slow:
            forget_compiled()
        ready, missing = {}, {}
        # compilers may use all cores for it
        with torch_threads(self.threads):
            try:
                calls = [self._ready(self.against, self.original)[0]]
            except NotExportable as error:
                return (), dict.fromkeys(backends, str(error)), ()
            for name in backends:
                try:
                    runs, seconds = self._ready(name, self.compressed)
                except NotExportable as error:
                    missing[name] = str(error)
                    continue
                ready[name] = seconds
                calls.append(runs)
        if not ready:
            return (), missing, ()
        clock = on_cuda if self.device == "cuda" else on_wall
        session = time_undisturbed(calls, self.threads, clock=clock, report=tell)
        timings = (self._timing(session, n, i, s) for i, (n, s) in enumerate(ready.items(), 1))
        return tuple(timings), missing, session.cores

    def _timing(self, session: TimingSession, backend: str, at: int, seconds: float) -> Timing:
        batch = len(self.images)
        engine = describe(self.against, self.device), describe(backend, self.device)
        return Timing(
            backend=backend,
            original_backend=self.against,
            baseline=session.latency(0, engine[0], self.threads, batch),
            compressed=session.latency(at, engine[1], self.threads, batch),
            ratio=session.ratio(0, at),
            control=session.control(0),
            ready_seconds=seconds,
            busy=session.load.others,
            waiting=session.load.waiting,
            switches=session.load.switches,
        )

    def _ready(self, backend: str, model: DeployableModel) -> tuple[list[Call], float]:
        """A model's calls, made ready twice unless that is slow, and the seconds of the first."""
        prepare = RUNTIMES[backend].prepare
        started = time.perf_counter()
        calls = [prepare(model.subject, self.images, self.threads, self.device)]
        seconds = time.perf_counter() - started
        if not BACKENDS[backend].slow:
            calls.append(prepare(model.subject, self.images, self.threads, self.device))
        return calls, seconds


def analyse_speedups(
    timings: Sequence[Timing], work: Pair[Workload], machine: MachinePeaks | None
) -> tuple[SpeedupAnalysis, ...]:
    """The speed-up analysis of several timings of one batch size, for which `work` is done."""
    cases = (SpeedupCase(t, work.original, work.compressed, machine) for t in timings)
    return tuple(map(analyse_speedup, cases))


def threads_available() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or torch.get_num_threads()
