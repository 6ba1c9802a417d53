"""What this machine can do at most: arithmetic, moving bytes, starting an operator.

A short look, kept for a day: the best of many calls, for what disturbs only takes away.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from compression.export.onnx.sessions import session_options
from compression.measure.cpu_pinning import BackgroundLoad, pinned
from compression.measure.interleaved_timer import Call, on_wall
from compression.paths import cache_dir, write_cached
from compression.runs.results import Roof

_FRESH_SECONDS = 24 * 3600
_PROBE_SECONDS = 0.02
# Up to this share of the machine used by others, a look at it is a good one.
_QUIET = 0.25
_CHANNELS, _SIDE, _KERNEL = 128, 28, 3
_ROWS, _INNER = 512, 512
_CHAIN = 64
# From what the caches nearest to a core hold to what none does.
_BLOCKS = (1 << 18, 1 << 22, 1 << 24, 1 << 26)
_OPSET = 18

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class MachinePeaks:
    """The most that was seen with so many threads.

    `macs` are multiply-accumulates a second by kind of number, `bytes` pairs of a block's size and
    the bytes read and written a second when blocks of that size are copied, `start` the seconds
    that an operator with nothing to do takes, by engine. `busy` is the share of the machine that
    others used meanwhile, if that is known.
    """

    threads: int
    macs: dict[str, float]
    bytes: tuple[tuple[int, float], ...]
    start: dict[str, float]
    busy: float | None = None

    def better(self, other: MachinePeaks) -> MachinePeaks:
        """The best of two looks at the same machine."""
        return MachinePeaks(
            self.threads,
            {n: max(rate, other.macs.get(n, 0.0)) for n, rate in self.macs.items()},
            tuple((b, max(r, dict(other.bytes).get(b, 0.0))) for b, r in self.bytes),
            {n: min(s, other.start.get(n, s)) for n, s in self.start.items()},
            min(self.busy or 0.0, other.busy or 0.0),
        )

    def bytes_per_second(self, working_set: int) -> float:
        """For what touches so many bytes over and over."""
        fits = [rate for block, rate in self.bytes if block >= working_set]
        return max(fits, default=self.bytes[-1][1])

    def roofs(self, working_set: int) -> tuple[Roof, ...]:
        """A roof for each kind of number, for a model that touches so many bytes."""
        return tuple(
            Roof(
                numbers=dtype,
                threads=self.threads,
                macs_per_second=macs,
                bytes_per_second=self.bytes_per_second(working_set),
            )
            for dtype, macs in self.macs.items()
        )


@lru_cache(maxsize=8)
def machine_peaks(threads: int = 1) -> MachinePeaks:
    """Look what this machine can do, or read what was seen within a day. About half a second.

    Where it was busy when it was looked at, it is looked at again, and the best counts.
    """
    path = cache_dir() / "machine" / f"{_name(threads)}.json"
    known = _known(path)
    if known is not None and (known.busy or 0.0) < _QUIET:
        return known
    seen = measure_peaks(threads)
    seen = seen if known is None else seen.better(known)
    with suppress(OSError):
        write_cached(path, json.dumps(asdict(seen)).encode())
    return seen


def _known(path: Path) -> MachinePeaks | None:
    try:
        if time.time() - path.stat().st_mtime > _FRESH_SECONDS:
            return None
        body = json.loads(path.read_text())
        blocks = tuple((int(block), float(rate)) for block, rate in body.pop("bytes"))
        return MachinePeaks(bytes=blocks, **body)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _name(threads: int) -> str:
    made_of = (platform.node(), cpu_name(), ort.__version__, torch.__version__, threads)
    return hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]


def cpu_name() -> str:
    """The processor's name, as it gives itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def measure_peaks(threads: int) -> MachinePeaks:
    """Measure it now."""
    convolution = _SIDE * _SIDE * _CHANNELS * _CHANNELS * _KERNEL * _KERNEL
    product = _ROWS * _INNER * _INNER
    others = BackgroundLoad()
    with pinned(threads):
        macs = {
            dtype: max(
                convolution / _best(_onnx_call(convolve(dtype), threads)),
                product / _best(_onnx_call(multiply(dtype), threads)),
            )
            for dtype in ("float32", "int8")
        }
        start = {
            "onnx": _start(lambda length: _onnx_call(chain(length), threads)),
            "eager": _start(_eager_chain),
        }
        blocks = tuple((b, _copy(b)) for b in _BLOCKS)
    return MachinePeaks(threads, macs, blocks, start, others.share())


def _best(call: Call) -> float:
    """Seconds of the fastest of many calls."""
    call()
    best, until = on_wall(call), time.perf_counter() + _PROBE_SECONDS
    while time.perf_counter() < until:
        best = min(best, on_wall(call))
    return best / 1e3


def _start(make: Callable[[int], Call]) -> float:
    """Seconds for each more operator in a chain of them."""
    return max(0.0, _best(make(2 * _CHAIN)) - _best(make(_CHAIN))) / _CHAIN


def _copy(block: int) -> float:
    source = torch.zeros(block // 2, dtype=torch.uint8)
    target = torch.zeros_like(source)
    # as many copies in a call as take long enough to be timed
    times = max(1, (1 << 22) // block)

    def call() -> None:
        for _ in range(times):
            target.copy_(source)

    return times * block / _best(call)


# Graphs: a convolution and a product as they come in models, and operators with nothing to do


def _onnx_call(graph: onnx.ModelProto, threads: int) -> Call:
    options = session_options(threads)
    running = ort.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = running.get_inputs()[0]
    kind = np.uint8 if "uint8" in given.type else np.float32
    inputs = {given.name: np.ones(given.shape, kind)}
    return lambda: running.run(None, inputs)


def _graph(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Array],
    shapes: tuple[Sequence[int], Sequence[int]],
    kind: int,
) -> onnx.ModelProto:
    body = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", kind, shapes[0])],
        [helper.make_tensor_value_info("y", kind, shapes[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(body, opset_imports=[opset], ir_version=9)


_SCALES = ("x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero")


def _scales() -> dict[str, Array]:
    scale, low, middle = np.array(0.1, np.float32), np.array(0, np.uint8), np.array(0, np.int8)
    scales = {"x_scale": scale, "w_scale": scale, "y_scale": scale}
    return scales | {"x_zero": low, "y_zero": low, "w_zero": middle}


def convolve(dtype: str) -> onnx.ModelProto:
    """A 3 x 3 convolution in float32, or with uint8 inputs and int8 weights."""
    shape = (1, _CHANNELS, _SIDE, _SIDE)
    weight = np.ones((_CHANNELS, _CHANNELS, _KERNEL, _KERNEL), np.float32)
    how: dict[str, Any] = {"pads": [_KERNEL // 2] * 4, "kernel_shape": [_KERNEL] * 2}
    if dtype == "float32":
        node = helper.make_node("Conv", ["x", "w"], ["y"], **how)
        return _graph([node], {"w": weight}, (shape, shape), TensorProto.FLOAT)
    node = helper.make_node("QLinearConv", ["x", *_SCALES], ["y"], **how)
    constants = {"w": weight.astype(np.int8), **_scales()}
    return _graph([node], constants, (shape, shape), TensorProto.UINT8)


def multiply(dtype: str) -> onnx.ModelProto:
    """A matrix product in float32, or with uint8 inputs and int8 weights."""
    shapes = (_ROWS, _INNER), (_ROWS, _INNER)
    weight = np.ones((_INNER, _INNER), np.float32)
    if dtype == "float32":
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        return _graph([node], {"w": weight}, shapes, TensorProto.FLOAT)
    node = helper.make_node("QLinearMatMul", ["x", *_SCALES], ["y"])
    constants = {"w": weight.astype(np.int8), **_scales()}
    return _graph([node], constants, shapes, TensorProto.UINT8)


def chain(length: int) -> onnx.ModelProto:
    """So many 1 x 1 convolutions of one pixel with a few channels, one after the other."""
    names = ["x", *(f"h{i}" for i in range(1, length)), "y"]
    nodes = [helper.make_node("Conv", [a, "w"], [b]) for a, b in pairwise(names)]
    weight = np.eye(8, dtype=np.float32).reshape(8, 8, 1, 1)
    return _graph(nodes, {"w": weight}, ((1, 8, 1, 1), (1, 8, 1, 1)), TensorProto.FLOAT)


def _eager_chain(length: int) -> Call:
    layer = torch.nn.Conv2d(8, 8, 1, bias=False)
    x = torch.ones(1, 8, 1, 1)

    def call() -> None:
        with torch.inference_mode():
            y = x
            for _ in range(length):
                y = layer(y)

    return call
