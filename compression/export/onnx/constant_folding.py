"""What an exporter leaves in a graph although it is known: constants, sizes, biases of zeros."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
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
    for node in body.node:
        values = _value(node, known, shapes, types)
        if values is None:
            kept.append(node)
        else:
            known |= values
    for node in kept:
        _simplify(node, known, kept)
    outputs = {o.name for o in body.output}
    kept = _rewritten(kept, known, shapes, outputs)
    used = reachable(kept, outputs)
    del body.node[:]
    for node in used:
        del node.metadata_props[:]
        node.ClearField("doc_string")
        body.node.append(node)
    _keep_used(body, known)
    del body.value_info[:]


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
        dims = shapes.get(node.input[0], [None])[start:end]
        if None in dims or node.input[0] not in shapes:
            return None
        return {node.output[0]: np.array(dims, np.int64)}
    if node.op_type == "CastLike" and node.input[0] in known and node.input[1] in types:
        kind = helper.tensor_dtype_to_np_dtype(types[node.input[1]])
        return {node.output[0]: known[node.input[0]].astype(kind)}
    given = [n for n in node.input if n]
    if node.op_type in _NEVER or not all(n in known for n in given):
        return None
    if not given and node.op_type != "Constant":
        return None
    values = ReferenceEvaluator(node).run(None, {n: known[n] for n in given})
    if any(np.size(v) > _MOST_VALUES for v in values):
        return None
    return {n: np.asarray(v) for n, v in zip(node.output, values, strict=True)}


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute of a node, or what it is without."""
    for entry in node.attribute:
        if entry.name == name:
            return helper.get_attribute_value(entry)
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
        name = f"{node.output[0]}_free"
        known[name] = np.concatenate([np.array([-1]) if p is None else p for p in parts]).astype(
            np.int64
        )
        node.input[1] = name


def _single(name: str, nodes: list[onnx.NodeProto]) -> bool:
    """Whether a part of a shape is one entry."""
    maker = next((n for n in nodes if name in n.output), None)
    return maker is not None and maker.op_type in ("Reshape", "Unsqueeze", "Shape", "Squeeze")


def _rewritten(
    nodes: list[onnx.NodeProto],
    known: dict[str, Array],
    shapes: dict[str, list[int | None]],
    outputs: set[str],
) -> list[onnx.NodeProto]:
    """Nodes in forms that engines have kernels for, and none that only rename."""
    renamed: dict[str, str] = {}
    rewritten: list[onnx.NodeProto] = []
    parts = {n.output[0]: n for n in nodes if n.op_type == "SplitToSequence"}
    split: set[str] = set()
    for node in nodes:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
        elif node.op_type == "SequenceAt" and node.input[0] in parts:
            maker = parts[node.input[0]]
            at = int(known[node.input[1]])
            if maker.output[0] not in split:
                split.add(maker.output[0])
                rewritten.append(_split(maker, known, shapes))
            renamed[node.output[0]] = f"{maker.output[0]}_{at}"
        elif node.op_type == "ReduceMean":
            rewritten += _pooled(node, known, shapes)
        else:
            rewritten.append(node)
    return rewritten


def _split(
    maker: onnx.NodeProto, known: dict[str, Array], shapes: dict[str, list[int | None]]
) -> onnx.NodeProto:
    axis = attribute(maker, "axis", 0)
    whole = shapes[maker.input[0]][axis]
    assert whole is not None
    sizes = known[maker.input[1]]
    if sizes.ndim == 0:
        each = int(sizes)
        sizes = np.array([min(each, whole - at) for at in range(0, whole, each)], np.int64)
    name = f"{maker.output[0]}_sizes"
    known[name] = sizes
    outputs = [f"{maker.output[0]}_{i}" for i in range(len(sizes))]
    return helper.make_node("Split", [maker.input[0], name], outputs, maker.name, axis=axis)


def _pooled(
    node: onnx.NodeProto, known: dict[str, Array], shapes: dict[str, list[int | None]]
) -> list[onnx.NodeProto]:
    """A mean over height and width as what it is called in convolutional networks."""
    axes = known.get(node.input[1]) if len(node.input) > 1 else None
    shape = shapes.get(node.input[0])
    spatial = axes is not None and shape is not None and len(shape) == 4
    if not spatial or sorted(int(a) % 4 for a in np.ravel(axes)) != [2, 3]:  # type: ignore[arg-type]
        return [node]
    if attribute(node, "keepdims", 1):
        return [helper.make_node("GlobalAveragePool", node.input[:1], node.output, node.name)]
    name, wide = f"{node.output[0]}_axes", f"{node.output[0]}_pooled"
    known[name] = np.array([2, 3], np.int64)
    return [
        helper.make_node("GlobalAveragePool", node.input[:1], [wide], node.name),
        helper.make_node("Squeeze", [wide, name], node.output, f"{node.name}_flat"),
    ]


def reachable(nodes: Sequence[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that outputs come from, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    return kept[::-1]


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
