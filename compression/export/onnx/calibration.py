"""Ranges of tensors inside a graph, from what they hold on calibration images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from compression.errors import CompressionError, InvalidInput
from compression.export.onnx.sessions import session

CODES = 255
MOST_IMAGES = 256
_BINS = 2048
_BATCH_BYTES = 1 << 25
# Values of one tensor that are kept of every batch.
_SAMPLE = 1 << 15
_SHRINK = np.linspace(0.98, 0.2, 40)
_FINE = (0.9, 0.95, 0.98, 1.02, 1.05, 1.1)


@dataclass(frozen=True)
class ActivationRange:
    """Ends of a tensor's values and some of the values, evenly drawn."""

    least: float
    most: float
    values: NDArray[np.float32]


def observe_activations(
    graph: onnx.ModelProto, tensors: Iterable[str], images: Tensor
) -> dict[str, ActivationRange]:
    """What the named tensors hold on `images` [n, 3, h, w], of which the first 256 are looked at.

    Raises:
        NotExportable: ONNX Runtime cannot run the graph.
        InvalidInput: there are no images, or fewer than a graph of a fixed batch takes.
        CompressionError: a tensor is not finite.
    """
    given = graph.graph.input[0].name
    names = sorted(set(tensors))
    ranges: dict[str, list[ActivationRange]] = {name: [] for name in names}
    inside = [name for name in names if name != given]
    running = session(_with_outputs(graph, inside))
    fixed = running.get_inputs()[0].shape[0]
    pixels = images[:MOST_IMAGES].cpu().contiguous().numpy()
    size = fixed if isinstance(fixed, int) else 1
    at = 0
    while at + size <= len(pixels):
        batch = pixels[at : at + size]
        values = running.run(inside, {given: batch}) if inside else []
        for name, value in zip(inside, values, strict=True):
            ranges[name].append(_look(name, value))
        if given in ranges:
            ranges[given].append(_look(given, batch))
        at += size
        if not isinstance(fixed, int):
            each = sum(v.nbytes for v in values) // size + 1
            size = min(max(_BATCH_BYTES // each, 1), max(len(pixels) - at, 1))
    return {name: _joined(parts) for name, parts in ranges.items()}


def _with_outputs(graph: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    extended = onnx.ModelProto()
    extended.CopyFrom(graph)
    present = {o.name for o in extended.graph.output}
    extended.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in names
        if name not in present
    )
    return extended


def _look(name: str, value: NDArray[np.float32]) -> ActivationRange:
    least, most = float(value.min()), float(value.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise CompressionError(
            f"tensor {name}: it is not finite on the calibration images, so it has no range to "
            "quantize; compress the weights less"
        )
    flat = value.reshape(-1)
    # an odd stride, or all values would come from the same few columns
    return ActivationRange(least, most, flat[:: (len(flat) // _SAMPLE) | 1].copy())


def _joined(parts: list[ActivationRange]) -> ActivationRange:
    if not parts:
        raise InvalidInput("images", 0, "at least one batch to calibrate on")
    values = np.concatenate([p.values for p in parts])
    return ActivationRange(min(p.least for p in parts), max(p.most for p in parts), values)


def widest(seen: Iterable[ActivationRange]) -> ActivationRange:
    """All of several tensors that share a range."""
    return _joined(list(seen))


def best_range(seen: ActivationRange, least: float | None = None) -> tuple[float, float]:
    """The range with the least squared error of 8 bits, zero inside (as in Banner et al., 2019).

    Both ends are drawn in together, then each alone around the best; `least` fixes the lower end.
    """
    low, high = min(seen.least, 0.0), max(seen.most, 0.0)
    if least is not None:
        low = least
    if high <= low:
        return low, low + 1.0
    counts, edges = np.histogram(seen.values, _BINS, (low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    filled = counts > 0
    counts, centres = counts[filled], centres[filled]
    error = _error(low, high, counts, centres)
    tries = [(low if least is not None else low * f, high * f) for f in _SHRINK]
    best = low, high
    for tried in tries:
        best, error = _better(tried, best, error, counts, centres)
    for factor in _FINE * 2:
        if least is None:
            tried = max(best[0] * factor, low), best[1]
            best, error = _better(tried, best, error, counts, centres)
        tried = best[0], min(best[1] * factor, high)
        best, error = _better(tried, best, error, counts, centres)
    return best


_Range = tuple[float, float]
_Array = NDArray[np.float64]


def _better(
    tried: _Range, best: _Range, error: float, counts: _Array, centres: _Array
) -> tuple[_Range, float]:
    tried_error = _error(*tried, counts, centres)
    return (tried, tried_error) if tried_error < error else (best, error)


def _error(low: float, high: float, counts: _Array, centres: _Array) -> float:
    scale, zero = grid(low, high)
    codes = np.clip(np.rint(centres / scale) + zero, 0, CODES)
    return float((((codes - zero) * scale - centres) ** 2 * counts).sum())


def grid(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of the 256 codes from `low` to `high`, which hold zero between them."""
    scale = float(np.float32((high - low) / CODES)) or 1.0
    return scale, int(np.clip(round(-low / scale), 0, CODES))
