"""Biases that make up for what the rounding inside an int8 graph shifts on average.

Empirical bias correction (Nagel et al., Data-free quantization, 2019): layer after layer, the mean
of every channel becomes what it is in the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from compression.export.onnx.operators import Flow, Kind
from compression.export.onnx.sessions import session
from compression.models.activation_memory import activation_memory
from compression.models.hooks import hooked
from compression.models.parametrize import compressible

Array = NDArray[Any]
MOST_IMAGES, LEAST_IMAGES = 64, 16
# What one layer's inputs and outputs may take of memory, in bytes.
_LAYER_BYTES = 192 * 2**20
_TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.uint8): TensorProto.UINT8}
_TYPES |= {np.dtype(np.int64): TensorProto.INT64, np.dtype(np.int32): TensorProto.INT32}
_BIAS = ".bias_codes"


def correction_images(model: nn.Module, images: Tensor) -> Tensor:
    """The first of `images` [n, ...], as many as memory is good for: from 16 to 64."""
    here = images[:1].to(next(model.parameters()).device)
    count = _LAYER_BYTES // activation_memory(model, here).widest
    return images[: min(MOST_IMAGES, max(LEAST_IMAGES, count))]


@torch.inference_mode()
def target_means(model: nn.Module, flow: Flow, images: Tensor) -> dict[str, Array]:
    """Mean of every channel [c] that a layer gives, with what is folded into it, by its name."""
    means: dict[str, Array] = {}

    def keep(name: str, module: nn.Module, _: object, out: Tensor) -> None:
        axes = range(out.ndim - 1) if isinstance(module, nn.Linear) else (0, *range(2, out.ndim))
        mean = out.mean(tuple(axes))
        bias = module.bias
        mean = mean - bias if isinstance(bias, Tensor) else mean
        means[name] = mean.double().cpu().numpy()

    with hooked(dict(compressible(model)), post=keep):
        model(images.to(next(model.parameters()).device))
    targets: dict[str, Array] = {}
    for op in flow.ops:
        if op.kind in (Kind.CONV, Kind.GEMM) and op.bias is not None and op.layer in means:
            factor = 1.0 if op.factor is None else op.factor
            targets[op.layer] = means[op.layer] * factor + op.bias
    return targets


def correct_means(graph: onnx.ModelProto, targets: Mapping[str, Array], images: Tensor) -> None:
    """Change the biases of an int8 graph, in place, so that its layers' means are those `targets`.

    Raises:
        NotExportable: ONNX Runtime cannot run the graph.
    """
    body = graph.graph
    tensors = {t.name: t for t in body.initializer}
    known: dict[str, Array] = {body.input[0].name: images.cpu().contiguous().numpy()}
    pieces = list(_pieces(body.node, targets))
    last = {n: i for i, (nodes, _) in enumerate(pieces) for node in nodes for n in node.input}
    for at, (nodes, layer) in enumerate(pieces):
        made = {n for node in nodes for n in node.output}
        keep = [n for n in made if last.get(n, -1) > at or n == nodes[-1].output[0]]
        known |= _run(graph, nodes, tensors, known, keep)
        if layer:
            out = nodes[-1].output[0]
            shift = _shift(tensors, layer, known[out], targets[layer])
            known[out] = known[out] + shift.reshape(-1, *[1] * (known[out].ndim - 2))
        known = {n: v for n, v in known.items() if last.get(n, -1) > at}


def _pieces(nodes: Any, targets: Mapping[str, Array]) -> Iterator[tuple[list[onnx.NodeProto], str]]:
    """Runs of nodes that end with a layer whose bias can be changed; what follows is left out."""
    piece: list[onnx.NodeProto] = []
    for node in nodes:
        piece.append(node)
        if node.op_type in ("Conv", "Gemm") and len(node.input) == 3:
            layer = node.input[2].removesuffix(".bias_value")
            if layer in targets:
                yield piece, layer
                piece = []


def _run(
    graph: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    tensors: Mapping[str, onnx.TensorProto],
    known: Mapping[str, Array],
    keep: list[str],
) -> dict[str, Array]:
    used = {n for node in nodes for n in node.input}
    given = {n: known[n] for n in used & known.keys()}
    part = onnx.ModelProto(ir_version=graph.ir_version, opset_import=graph.opset_import)
    part.graph.name = "part"
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensors[n] for n in used & tensors.keys())
    part.graph.input.extend(
        helper.make_tensor_value_info(n, _TYPES[v.dtype], v.shape) for n, v in given.items()
    )
    part.graph.output.extend(onnx.ValueInfoProto(name=n) for n in keep)
    return dict(zip(keep, session(part).run(keep, given), strict=True))


def _shift(
    tensors: Mapping[str, onnx.TensorProto], layer: str, out: Array, targets: Array
) -> Array:
    """Change a layer's bias; by how much, float32 [c]."""
    bias = tensors[f"{layer}{_BIAS}"]
    unit = numpy_helper.to_array(tensors[f"{layer}.bias_scale"]).astype(np.float64)
    mean = out.mean((0, *range(2, out.ndim)), dtype=np.float64)
    steps = np.clip(np.rint((targets - mean) / unit), -(2.0**29), 2.0**29)
    codes = numpy_helper.to_array(bias) + steps.astype(np.int32)
    bias.CopyFrom(numpy_helper.from_array(codes.astype(np.int32), bias.name))
    shift: Array = (steps * unit).astype(np.float32)
    return shift
