"""Latency of two models, measured interleaved in one process on the same backend.

Masked zeros and fake-quantized weights run in dense float32 kernels, and that is what is timed:
these figures never suggest a speed that nothing has.
"""

from __future__ import annotations

import copy
import hashlib
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from compression.activations import input_grids, release_inputs
from compression.paths import cache_dir, write_cached
from compression.run import Latency, Ratio
from compression.widths import widths

SECONDS = 0.6
LEAST_CALLS, MOST_CALLS = 50, 2_000
RESAMPLES, BLOCKS = 500, 25
# Closest agreement of logits asked of an exported graph, relative to the largest logit.
TOLERANCE = 1e-3
# Without weights a graph takes some hundred kilobytes; every slider position of channels is one.
MOST_GRAPHS = 200

Call = Callable[[], object]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Both models' times, original / compressed, and original / original again as the control."""

    baseline: Latency
    compressed: Latency
    ratio: Ratio
    control: Ratio
    note: str | None


def compare(
    original: nn.Module,
    compressed: nn.Module,
    architectures: tuple[str, ...],
    example: Tensor,
    device: str = "cpu",
    threads: int = 1,
    report: Callable[[float], None] | None = None,
) -> Comparison:
    """Time both models on `example` [batch, 3, h, w], in random order within each round.

    ONNX Runtime float32 on a CPU when both graphs agree with PyTorch there, else PyTorch.
    Inputs held on grids are timed as they come, for no float32 kernel rounds them.
    `architectures` names what each is but for its weights and widths; a graph is exported once per
    architecture and widths.
    """
    note = None
    original, compressed = _float(original), _float(compressed)
    backend = f"PyTorch {torch.__version__} on {device}"
    calls: list[Call] = []
    # Each twice, in an order that favours neither: where a session's memory happens to lie can
    # move its median by several per cent, whatever it runs.
    models = (original, compressed, compressed, original)
    names = (*architectures, *reversed(architectures))
    if device == "cpu":
        try:
            calls = [
                _session(_graph(m, name, example), m, example, threads)
                for m, name in zip(models, names, strict=True)
            ]
            backend = f"ONNX Runtime {ort.__version__} float32"
        except _NotComparable as error:
            note = f"Latency was measured in PyTorch, because {error}."
    with _threads(threads), torch.inference_mode():
        if not calls:
            calls = [_eager(m, example, device) for m in models]
        first, candidate, candidate_again, again = _interleave(calls, report)
    before, after = [first, again], [candidate, candidate_again]
    batch = len(example)
    return Comparison(
        baseline=_latency(np.concatenate(before), backend, threads, batch),
        compressed=_latency(np.concatenate(after), backend, threads, batch),
        ratio=_across_sessions(before, after),
        control=ratio_of_medians(first, again),
        note=note,
    )


def _float(model: nn.Module) -> nn.Module:
    if not input_grids(model):
        return model
    twin = copy.deepcopy(model)
    release_inputs(twin)
    return twin


def _interleave(calls: Sequence[Call], report: Callable[[float], None] | None) -> list[Times]:
    order = list(range(len(calls)))
    shuffle = random.Random(0).shuffle
    until = time.perf_counter() + SECONDS / 4
    warm = 0
    while warm < 5 or time.perf_counter() < until:
        for call in calls:
            call()
        warm += 1
    times: list[list[float]] = [[] for _ in calls]
    started = time.perf_counter()
    wanted = SECONDS * len(calls)
    while len(times[0]) < MOST_CALLS:
        elapsed = time.perf_counter() - started
        if elapsed >= wanted and len(times[0]) >= LEAST_CALLS:
            break
        shuffle(order)
        for i in order:
            before = time.perf_counter_ns()
            calls[i]()
            times[i].append((time.perf_counter_ns() - before) / 1e6)
        if report:
            report(min(1.0, max(elapsed / wanted, 0.0)))
    return [np.array(t) for t in times]


def ratio_of_medians(before: Times, after: Times) -> Ratio:
    """Median of `before` over median of `after`, with a 95 % percentile bootstrap interval.

    Blocks of neighbouring rounds are resampled as a whole (Kuensch, 1989), because what disturbs
    one call disturbs the next ones too; single calls would make the interval far too narrow.
    """
    rng = np.random.default_rng(0)
    n = len(before)
    length = max(1, n // BLOCKS)
    starts = rng.integers(0, n - length + 1, (RESAMPLES, -(-n // length)))
    picks = (starts[:, :, None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :n]
    ratios = np.median(before[picks], 1) / np.median(after[picks], 1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    value = float(np.median(before) / np.median(after))
    return Ratio(value=value, low=min(float(low), value), high=max(float(high), value))


def _across_sessions(before: Sequence[Times], after: Sequence[Times]) -> Ratio:
    """The ratio over all calls; its interval holds that of every pair of sessions."""
    pairs = [ratio_of_medians(a, b) for a in before for b in after]
    value = float(np.median(np.concatenate(before)) / np.median(np.concatenate(after)))
    low, high = min(p.low for p in pairs), max(p.high for p in pairs)
    return Ratio(value=value, low=min(low, value), high=max(high, value))


def _latency(times: Times, backend: str, threads: int, batch: int) -> Latency:
    p50, p90, p99 = (float(q) for q in np.quantile(times, (0.5, 0.9, 0.99)))
    return Latency(
        backend=backend, threads=threads, batch=batch, p50_ms=p50, p90_ms=p90, p99_ms=p99
    )


class _threads:
    """PyTorch's thread count, put back afterwards."""

    def __init__(self, count: int) -> None:
        self._count, self._before = count, torch.get_num_threads()

    def __enter__(self) -> None:
        torch.set_num_threads(self._count)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)


def _eager(model: nn.Module, example: Tensor, device: str) -> Call:
    model = model.to(device).to(memory_format=torch.channels_last).eval()
    x = example.to(device).to(memory_format=torch.channels_last)
    if device == "cpu":
        return lambda: model(x)

    def call() -> None:
        model(x)
        torch.cuda.synchronize()

    return call


# ONNX Runtime


class _NotComparable(Exception):
    """The graph cannot be exported, or does not predict what PyTorch predicts."""


def _graph(model: nn.Module, architecture: str, example: Tensor) -> onnx.ModelProto:
    """The exported graph with the weights left empty; from the cache when it was exported before.

    Not optimised by the exporter: then every initializer is an entry of the state dict by name,
    so that weights can be put in without another export. ONNX Runtime folds and fuses on loading.
    """
    made_of = (architecture, tuple(example.shape), widths(model))
    versions = f"{made_of}|{torch.__version__}|{onnx.__version__}"
    name = hashlib.sha256(versions.encode()).hexdigest()[:16]
    path = cache_dir() / "graphs" / f"{architecture.replace('/', '-')}-{name}.onnx"
    if path.exists():
        with suppress(OSError):
            os.utime(path)
        return onnx.load(path)
    try:
        program = torch.onnx.export(
            model.to("cpu").eval(),
            (example,),
            dynamo=True,
            optimize=False,
            verbose=False,
            external_data=False,
        )
    except Exception as error:
        # The exporter raises whatever the model's code meets; any of it means the same here.
        raise _NotComparable(f"it cannot be exported to ONNX ({type(error).__name__})") from error
    assert program is not None
    graph = program.model_proto
    known = set(model.state_dict())
    for tensor in graph.graph.initializer:
        if tensor.name in known:
            tensor.ClearField("raw_data")
    with suppress(OSError):
        write_cached(path, graph.SerializeToString())
        _make_room(path.parent)
    return graph


def _make_room(folder: Path) -> None:
    """Keep the graphs used last."""
    files = sorted(folder.glob("*.onnx"), key=lambda p: p.stat().st_mtime)
    for file in files[:-MOST_GRAPHS]:
        file.unlink(missing_ok=True)


def _session(graph: onnx.ModelProto, model: nn.Module, example: Tensor, threads: int) -> Call:
    filled = onnx.ModelProto()
    filled.CopyFrom(graph)
    state = model.state_dict()
    for tensor in filled.graph.initializer:
        if tensor.name in state:
            tensor.raw_data = state[tensor.name].cpu().contiguous().numpy().tobytes()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(
            filled.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        inputs = {session.get_inputs()[0].name: example.cpu().contiguous().numpy()}
        out = torch.from_numpy(session.run(None, inputs)[0])
    except Exception as error:
        # onnxruntime's exceptions share no public base class, and protobuf has its own
        raise _NotComparable(f"ONNX Runtime cannot run it ({type(error).__name__})") from error
    with torch.inference_mode():
        expected = model.to("cpu")(example)
    if not torch.allclose(out, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max())):
        raise _NotComparable("ONNX Runtime's answers differ from PyTorch's")
    return lambda: session.run(None, inputs)
