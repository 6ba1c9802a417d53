"""A float32 graph read as operations that int8 kernels know, batch normalisation folded in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compression.export.onnx.constant_folding import attribute

Array = NDArray[Any]
INFINITE = float("inf")

# Operations that only move values, or choose among them: what goes in as codes comes out as codes.
_MOVES = (
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Split",
    "Slice",
    "Gather",
    "MaxPool",
    "Relu",
    "Clip",
)


class Kind(Enum):
    """What an operation is to an int8 kernel; `FLOAT` where there is none."""

    FLOAT = auto()
    CONV = auto()
    GEMM = auto()  # a linear layer
    MATMUL = auto()  # a linear layer on more than two dimensions
    NORM = auto()  # a batch normalisation that no convolution takes up
    MOVE = auto()
    CONCAT = auto()
    POOL = auto()
    SIGMOID = auto()
    HARD_SWISH = auto()
    HARD_SIGMOID = auto()
    ADD = auto()
    MUL = auto()


_KINDS = {
    **dict.fromkeys(_MOVES, Kind.MOVE),
    "Concat": Kind.CONCAT,
    "GlobalAveragePool": Kind.POOL,
    "AveragePool": Kind.POOL,
    "Sigmoid": Kind.SIGMOID,
    "HardSwish": Kind.HARD_SWISH,
    "HardSigmoid": Kind.HARD_SIGMOID,
    "Add": Kind.ADD,
    "Mul": Kind.MUL,
}
_WEIGHTED = {"Conv": Kind.CONV, "Gemm": Kind.GEMM, "MatMul": Kind.MATMUL}
# With a weight of the state dict; these and normalisations; and what lets part of a value through.
WEIGHTED = frozenset(_WEIGHTED.values())
LAYERS = WEIGHTED | {Kind.NORM}
GATES = frozenset({Kind.HARD_SWISH, Kind.HARD_SIGMOID})
_SIXTH = 1 / 6


@dataclass
class Op:
    """One node, or several that a single kernel does.

    Of a layer: `weight` [out, ...] or, in a product
    of matrices, as the state dict has it, `factor` and `bias` [out] what is multiplied and added
    after it. Results are held between `low` and `high`.
    """

    kind: Kind
    node: onnx.NodeProto
    inputs: list[str]
    outputs: list[str]
    layer: str = ""
    weight: Array | None = None
    factor: Array | None = None
    bias: Array | None = None
    low: float = -INFINITE
    high: float = INFINITE


@dataclass
class Flow:
    """The operations in order; `constants` are all initializers by name."""

    ops: list[Op]
    constants: Mapping[str, Array]
    outputs: set[str]
    uses: dict[str, list[Op]] = field(default_factory=dict)

    def link(self) -> None:
        """Note who uses each tensor."""
        self.uses = {}
        for op in self.ops:
            for name in dict.fromkeys(op.inputs):
                self.uses.setdefault(name, []).append(op)


def read_flow(graph: onnx.ModelProto) -> Flow:
    """The operations of a filled float32 graph."""
    body = graph.graph
    constants = {t.name: numpy_helper.to_array(t) for t in body.initializer}
    outputs = {o.name for o in body.output}
    turned = {
        n.output[0]: n.input[0]
        for n in body.node
        if n.op_type == "Transpose" and n.input[0] in constants and _flips(n)
    }
    counts = Counter(name for node in body.node for name in node.input)
    made: dict[str, Op] = {}
    ops: list[Op] = []
    for node in body.node:
        before = made.get(node.input[0]) if node.input else None
        alone = before is not None and counts[node.input[0]] == 1 and not outputs & {node.input[0]}
        if before is None or not alone or not _absorb(before, node, constants):
            op = _read(node, constants, turned)
            ops.append(op)
            made |= dict.fromkeys(op.outputs, op)
        else:
            before.outputs = list(node.output)
            made[node.output[0]] = before
    flow = Flow(ops, constants, outputs)
    flow.link()
    return flow


def _flips(node: onnx.NodeProto) -> bool:
    return list(attribute(node, "perm", [1, 0])) == [1, 0]


def _read(node: onnx.NodeProto, constants: Mapping[str, Array], turned: Mapping[str, str]) -> Op:
    given = [n for n in node.input if n and n not in constants]
    outputs = list(node.output)
    second = node.input[1] if len(node.input) > 1 else ""
    name = turned.get(second, second)
    layer, _, last = name.rpartition(".")
    named = last == "weight" and name in constants
    if node.op_type in _WEIGHTED and named and node.input[0] in given:
        flipped = second in turned or attribute(node, "transB", 0)
        if node.op_type == "Conv" or (flipped and _plain_product(node)):
            bias = constants[node.input[2]] if len(node.input) > 2 else None
            weight = constants[name]
            return Op(_WEIGHTED[node.op_type], node, given[:1], outputs, layer, weight, bias=bias)
    if node.op_type == "BatchNormalization" and len(given) == 1:
        factor, bias = _affine(node, constants)
        weight = np.ones((len(factor), 1, 1, 1), np.float32)
        return Op(Kind.NORM, node, given, outputs, "", weight, factor, bias)
    kind = _KINDS.get(node.op_type, Kind.FLOAT)
    if kind in (Kind.ADD, Kind.MUL) and len(given) != 2:
        kind = Kind.FLOAT
    if kind is Kind.MOVE and (len(given) != 1 or node.input[0] not in given):
        kind = Kind.FLOAT
    if kind is Kind.HARD_SIGMOID and not np.isclose(attribute(node, "alpha", 0.2), _SIXTH, 1e-4):
        kind = Kind.FLOAT
    op = Op(kind, node, given, outputs)
    if node.op_type in ("Relu", "Clip"):
        op.low, op.high = bounds(node, constants)
    return op


def _plain_product(node: onnx.NodeProto) -> bool:
    return not attribute(node, "transA", 0) and all(
        attribute(node, n, 1.0) == 1.0 for n in ("alpha", "beta")
    )


def _affine(node: onnx.NodeProto, constants: Mapping[str, Array]) -> tuple[Array, Array]:
    """What a batch normalisation multiplies by and adds, per channel."""
    gain, shift, mean, variance = (constants[n].astype(np.float64) for n in node.input[1:5])
    factor = gain / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return factor, shift - mean * factor


def bounds(node: onnx.NodeProto, constants: Mapping[str, Array]) -> tuple[float, float]:
    """Between what a Relu or a Clip holds its input."""
    if node.op_type == "Relu":
        return 0.0, INFINITE
    ends = [-INFINITE, INFINITE]
    for i, name in enumerate(node.input[1:3]):
        if name:
            ends[i] = float(constants[name])
    return ends[0], ends[1]


def _absorb(op: Op, node: onnx.NodeProto, constants: Mapping[str, Array]) -> bool:
    """Let `op` do the node that follows it, if its kernel can."""
    unbounded = (op.low, op.high) == (-INFINITE, INFINITE)
    bounded = node.op_type in ("Relu", "Clip")
    if bounded and unbounded and op.kind in (Kind.CONV, Kind.GEMM, Kind.NORM, Kind.ADD):
        if any(n not in constants for n in node.input[1:] if n):
            return False
        op.low, op.high = bounds(node, constants)
        return True
    if node.op_type == "BatchNormalization" and op.kind is Kind.CONV and unbounded:
        if any(n not in constants for n in node.input[1:]) or op.factor is not None:
            return False
        factor, shift = _affine(node, constants)
        op.bias = shift if op.bias is None else shift + op.bias * factor
        op.factor = factor
        return True
    if node.op_type == "Add" and op.kind is Kind.MATMUL and op.bias is None:
        bias = constants.get(node.input[1])
        if bias is None or op.weight is None or bias.shape != (len(op.weight),):
            return False
        op.bias = bias
        return True
    return False
