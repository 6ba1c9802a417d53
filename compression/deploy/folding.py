"""What an exporter leaves in a graph although it is known: constants, sizes, biases of zeros."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]
# Larger results would bloat what is cached; no size or bias is as large.
_MOST_VALUES = 1 << 16
_NEVER = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli")


def fold_constants(graph: onnx.ModelProto, weights: Collection[str]) -> None:
    """Compute what depends on no image and on none of `weights`, in place.

    Sizes but for the batch become constants, the one unknown entry of a new shape -1, and biases
    of nothing but zeros go. Notes of the exporter on every node go too.
    """
    body = graph.graph
    shapes = dict(_shapes(body))
    known = {t.name: numpy_helper.to_array(t) for t in body.initializer if t.name not in weights}
    types = {t.name: t.data_type for t in body.initializer}
    types |= {i.name: i.type.tensor_type.elem_type for i in (*body.input, *body.value_info)}
    kept: list[onnx.NodeProto] = []
    made: dict[str, Array] = {}
    for node in body.node:
        values = _value(node, known, shapes, types)
        if values is None:
            kept.append(node)
        else:
            made |= values
            known |= values
    for node in kept:
        _simplify(node, known, kept)
    used = _reachable(kept, {o.name for o in body.output})
    del body.node[:]
    for node in used:
        del node.metadata_props[:]
        node.ClearField("doc_string")
        body.node.append(node)
    _keep_used(body, made | {n: v for n, v in known.items() if n.endswith(_FREE)})
    del body.value_info[:]


_FREE = "_free"


def _shapes(body: onnx.GraphProto) -> Iterator[tuple[str, list[int | None]]]:
    for info in (*body.input, *body.value_info):
        dims = info.type.tensor_type.shape.dim
        yield info.name, [d.dim_value if d.HasField("dim_value") else None for d in dims]
    for tensor in body.initializer:
        yield tensor.name, list(tensor.dims)


def _value(
    node: onnx.NodeProto,
    known: dict[str, Array],
    shapes: dict[str, list[int | None]],
    types: dict[str, int],
) -> dict[str, Array] | None:
    """The node's outputs if they are known."""
    if node.op_type == "Shape":
        start, end = attribute(node, "start", 0), attribute(node, "end", None)
        wanted = shapes.get(node.input[0], [None])[start:end]
        if None in wanted or node.input[0] not in shapes:
            return None
        return {node.output[0]: np.array(wanted, np.int64)}
    if node.op_type == "CastLike" and node.input[0] in known and node.input[1] in types:
        kind = helper.tensor_dtype_to_np_dtype(types[node.input[1]])
        return {node.output[0]: known[node.input[0]].astype(kind)}
    given = [n for n in node.input if n]
    if node.op_type in _NEVER or not all(n in known for n in given):
        return None
    if not given and node.op_type != "Constant":
        return None
    found = ReferenceEvaluator(node).run(None, {n: known[n] for n in given})
    if any(np.size(v) > _MOST_VALUES for v in found):
        return None
    return {n: np.asarray(v) for n, v in zip(node.output, found, strict=True)}


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute of a node, or what it is without."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return default


def _simplify(node: onnx.NodeProto, known: dict[str, Array], nodes: list[onnx.NodeProto]) -> None:
    if node.op_type == "Conv" and len(node.input) == 3:
        bias = known.get(node.input[2])
        if bias is not None and not bias.any():
            del node.input[2]
    if node.op_type == "Reshape" and node.input[1] not in known:
        maker = next((n for n in nodes if node.input[1] in n.output), None)
        if maker is None or maker.op_type != "Concat":
            return
        parts = [known.get(n) for n in maker.input]
        unknown = [p for p in parts if p is None]
        # a zero copies a dimension and a -1 is the unknown one already: leave these alone
        if len(unknown) != 1 or any((p <= 0).any() for p in parts if p is not None):
            return
        if not _single(maker.input[parts.index(None)], nodes):
            return
        name = f"{node.output[0]}{_FREE}"
        known[name] = np.concatenate([np.array([-1]) if p is None else p for p in parts]).astype(
            np.int64
        )
        node.input[1] = name


def _single(name: str, nodes: list[onnx.NodeProto]) -> bool:
    """Whether a part of a shape is one entry."""
    maker = next((n for n in nodes if name in n.output), None)
    return maker is not None and maker.op_type in ("Reshape", "Unsqueeze", "Shape", "Squeeze")


def _reachable(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.append(node)
    return found[::-1]


def _keep_used(body: onnx.GraphProto, made: dict[str, Array]) -> None:
    used = {name for node in body.node for name in node.input} | {o.name for o in body.output}
    tensors = [t for t in body.initializer if t.name in used]
    present = {t.name for t in tensors}
    tensors += [
        numpy_helper.from_array(np.asarray(value, order="C"), name)
        for name, value in made.items()
        if name in used - present
    ]
    kept = [t.SerializeToString() for t in tensors]
    del body.initializer[:]
    for data in kept:
        body.initializer.add().ParseFromString(data)
