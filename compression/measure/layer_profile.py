"""What each layer has to do, and how long it takes in the engine that runs it.

An engine fuses and renames operators; a node counts for the layer whose weight it uses, by the
initializer's name in the graph. What belongs to no layer with weights is summed by kind.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from compression.export.onnx.sessions import session_options
from compression.models.hooks import hooked, leaves
from compression.models.load import macs_by_layer
from compression.models.parametrize import compressible, weight_of
from compression.paths import timing_seconds
from compression.runs.results import LayerTime

CALLS = 50
# What stands between a weight and the node that uses it.
_PASSING = ("DequantizeLinear", "QuantizeLinear", "Transpose", "Reshape", "Cast", "Identity")
_SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class Cost:
    """What a layer does in one call: multiply-accumulates, those of them by weights that are not
    zero, and how many numbers its weights, inputs and outputs are."""

    kind: str
    macs: int
    nonzero_macs: float
    weights: int
    activations: int

    def bytes(self, size: int) -> int:
        """Bytes that it must at least move where a number takes `size`."""
        return size * (self.weights + self.activations)


def costs(model: nn.Module, images: Tensor) -> dict[str, Cost]:
    """What the layers with weights do for images [n, c, h, w], by name, in the order of use."""
    activations: dict[str, int] = defaultdict(int)

    def add(name: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        activations[name] += inputs[0].numel() + output.numel()

    layers = dict(compressible(model))
    with hooked(layers, post=add):
        macs = macs_by_layer(model, images)
    return {n: _cost(layers[n], macs.get(n, 0), count) for n, count in activations.items()}


def _cost(layer: nn.Module, macs: int, activations: int) -> Cost:
    weight = weight_of(layer)
    share = float(weight.count_nonzero()) / weight.numel()
    return Cost(type(layer).__name__, macs, share * macs, weight.numel(), activations)


@dataclass(frozen=True)
class Spent:
    """Median milliseconds of one call in a layer, or in all operators of a kind."""

    kind: str
    ms: float


def in_runtime(
    graphs: Sequence[onnx.ModelProto], layers: Sequence[Collection[str]], images: Tensor
) -> list[dict[str, Spent]]:
    """Time by layer of several graphs in ONNX Runtime, run interleaved on one thread.

    `layers` are the names of each graph's layers; what is of none is under its operator's name in
    brackets. The profiler counts whole microseconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        sessions = [_profiled(g, Path(folder) / str(i)) for i, g in enumerate(graphs)]
        inputs = {sessions[0].get_inputs()[0].name: images.cpu().contiguous().numpy()}
        until, calls = perf_counter() + timing_seconds() * len(graphs), 0
        while calls < CALLS or perf_counter() < until:
            for session in sessions:
                session.run(None, inputs)
            calls += 1
        events = [json.loads(Path(s.end_profiling()).read_text()) for s in sessions]
    return [
        _by_layer(_nodes(nodes), owners(graph, names), calls)
        for nodes, graph, names in zip(events, graphs, layers, strict=True)
    ]


def _profiled(graph: onnx.ModelProto, file: Path) -> ort.InferenceSession:
    options = session_options()
    options.enable_profiling, options.profile_file_prefix = True, str(file)
    return ort.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _nodes(events: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, str, float]]:
    """Name, operator and milliseconds of every time a node ran."""
    for event in events:
        name, about = str(event["name"]), event.get("args")
        if event.get("cat") == "Node" and name.endswith(_SUFFIX) and isinstance(about, dict):
            yield name.removesuffix(_SUFFIX), str(about["op_name"]), float(str(event["dur"])) / 1e3


def _by_layer(
    ran: Iterator[tuple[str, str, float]], owner: Mapping[str, str], calls: int
) -> dict[str, Spent]:
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, kind, ms in ran:
        times[name, kind].append(ms)
    spent: dict[str, Spent] = {}
    for (name, kind), taken in times.items():
        layer = _longest(name.removeprefix("fused "), owner) if _weighs(kind) else None
        key = owner[layer] if layer else f"({kind})"
        # a node that runs several times in a call has as many times more entries
        ms = float(np.median(taken)) * len(taken) / calls
        before = spent.get(key)
        spent[key] = Spent(before.kind if before else kind, ms + (before.ms if before else 0.0))
    return spent


def _weighs(kind: str) -> bool:
    return any(part in kind for part in ("Conv", "Gemm", "MatMul"))


def owners(graph: onnx.ModelProto, layers: Collection[str]) -> dict[str, str]:
    """The layer that each name in a graph belongs to: of nodes by the weight they use, of tensors
    by the last such node before them, for what is fused takes the name of its output."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.graph.initializer}
    by_weight = {f"{layer}.weight": layer for layer in layers}
    owner: dict[str, str] = {}
    last: dict[str, int] = {}
    for at, node in enumerate(graph.graph.node):
        if node.op_type in _PASSING and node.input[0] not in owner:
            continue
        layer = None
        for name in node.input[1:]:
            while name in makers and makers[name].op_type in _PASSING:
                name = makers[name].input[0]
            if name in constants and (weight := _longest(name, by_weight)):
                layer = by_weight[weight]
        if layer is not None:
            owner[node.name], latest = layer, at
        else:
            before = [name for name in node.input if name in owner]
            if not before:
                continue
            nearest = max(before, key=lambda name: last[name])
            layer, latest = owner[nearest], last[nearest]
        for name in node.output:
            owner[name], last[name] = layer, latest
    return owner


def _longest(name: str, known: Collection[str]) -> str | None:
    """The longest of the known names that a name is, or that it goes on from."""
    fits = [k for k in known if name == k or (name.startswith(k) and not name[len(k)].isalnum())]
    return max(fits, key=len, default=None)


@torch.inference_mode()
def in_pytorch(models: Sequence[nn.Module], images: Tensor) -> list[dict[str, Spent]]:
    """Time by leaf of several models in PyTorch on the CPU, run interleaved."""
    taken: list[dict[str, list[float]]] = [defaultdict(list) for _ in models]
    kinds: list[dict[str, str]] = [{} for _ in models]
    until, calls = perf_counter() + timing_seconds() * len(models), 0
    while calls < CALLS or perf_counter() < until:
        for model, times, kind in zip(models, taken, kinds, strict=True):
            with _watched(model, times, kind):
                model(images)
        calls += 1
    return [
        {n: Spent(kind[n], float(np.median(t)) * len(t) / calls) for n, t in times.items()}
        for times, kind in zip(taken, kinds, strict=True)
    ]


@contextmanager
def _watched(
    model: nn.Module, taken: dict[str, list[float]], kinds: dict[str, str]
) -> Iterator[None]:
    started: dict[str, float] = {}

    def begin(name: str, *_: object) -> None:
        started[name] = perf_counter()

    def end(name: str, module: nn.Module, *_: object) -> None:
        taken[name].append(1e3 * (perf_counter() - started[name]))
        kinds[name] = type(module).__name__

    with hooked(leaves(model), pre=begin, post=end):
        yield


def side_by_side(
    spent: Sequence[Mapping[str, Spent]],
    work: Sequence[Mapping[str, Cost]],
    sizes: tuple[Mapping[str, int], Mapping[str, int]],
) -> tuple[LayerTime, ...]:
    """Both models' layers in the order of use, then what is of no layer.

    `sizes` are the bytes of a number in each model's layers; 4 where not given.
    """
    names = dict.fromkeys([*work[0], *work[1], *spent[0], *spent[1]])
    return tuple(_row(name, spent, work, sizes) for name in names)


def _row(
    name: str,
    spent: Sequence[Mapping[str, Spent]],
    work: Sequence[Mapping[str, Cost]],
    sizes: tuple[Mapping[str, int], Mapping[str, int]],
) -> LayerTime:
    times = [each.get(name) for each in spent]
    done = [each.get(name) for each in work]
    moved = [c.bytes(size.get(name, 4)) if c else None for c, size in zip(done, sizes, strict=True)]
    kind = next(each.kind for each in (*done, *times) if each is not None)
    return LayerTime(
        name=name,
        kind=kind,
        original_ms=times[0].ms if times[0] else None,
        compressed_ms=times[1].ms if times[1] else None,
        original_macs=done[0].macs if done[0] else None,
        compressed_macs=done[1].macs if done[1] else None,
        original_bytes=moved[0],
        compressed_bytes=moved[1],
    )
