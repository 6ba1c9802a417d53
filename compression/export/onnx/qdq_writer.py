"""Writes a plan down as nodes: what runs on codes between dequantized and quantized tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compression.export.onnx.constant_folding import reachable
from compression.export.onnx.operators import GATES, INFINITE, LAYERS, Kind, Op
from compression.export.onnx.quantization_plan import Plan, Scale, gives_codes
from compression.export.onnx.weight_codes import (
    MOST,
    MOST_BIAS,
    Codes,
    make_room,
    multiplied,
)

Array = NDArray[Any]


def emit(graph: onnx.ModelProto, plan: Plan, codes: Mapping[str, Codes]) -> onnx.ModelProto:
    """The int8 graph of a filled float32 graph.

    A layer's codes are the initializer `LAYER.weight_codes`, its steps `LAYER.weight_scale`.
    """
    writer = _Writer(plan, codes, dict(plan.flow.constants))
    for op in plan.flow.ops:
        writer.write(op)
    for name in plan.flow.outputs:
        writer.wide(name)
    int8 = onnx.ModelProto()
    int8.CopyFrom(graph)
    body = int8.graph
    del body.node[:], body.initializer[:], body.value_info[:]
    nodes = reachable(writer.nodes, plan.flow.outputs)
    body.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    body.initializer.extend(
        numpy_helper.from_array(np.asarray(v, order="C"), n)
        for n, v in writer.constants.items()
        if n in used
    )
    return int8


@dataclass
class _Writer:
    plan: Plan
    codes: Mapping[str, Codes]
    constants: dict[str, Array]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    coded: dict[str, str] = field(default_factory=dict)  # codes of tensors
    widened: dict[str, str] = field(default_factory=dict)  # floats of codes
    floats: set[str] = field(default_factory=set)  # what does not come as codes

    def write(self, op: Op) -> None:
        if not self.plan.runs(op):
            return self._float(op)
        if op.kind in LAYERS:
            return self._layer(op)
        if op.kind is Kind.MOVE:
            return self._move(op)
        if op.kind in GATES:
            return self._gate(op)
        return self._compute(op, op.node, [self.wide(name) for name in op.inputs], coded=True)

    # tensors

    def constant(self, name: str, value: Array) -> str:
        self.constants[name] = value
        return name

    def _grid(self, name: str, scale: Scale) -> tuple[str, str]:
        return (
            self.constant(f"{name}_scale", np.array(scale.scale, np.float32)),
            self.constant(f"{name}_zero", np.array(scale.zero, np.uint8)),
        )

    def code(self, name: str) -> str:
        """The tensor of codes of a tensor, made of its floats if need be."""
        if name not in self.coded:
            self.floats.add(name)
            self.quantize(name, name)
        return self.coded[name]

    def wide(self, name: str) -> str:
        """The tensor of floats of a tensor, made of its codes if need be."""
        if name in self.coded and name not in self.widened:
            scale = self.plan.scales[name]
            given = [self.coded[name], *self._grid(name, scale)]
            # what comes as floats keeps its name
            value = f"{name}_value" if name in self.floats else name
            self.nodes.append(helper.make_node("DequantizeLinear", given, [value]))
            self.widened[name] = value
        return self.widened.get(name, name)

    def quantize(
        self, name: str, given: str, low: float = -INFINITE, high: float = INFINITE
    ) -> None:
        """Codes of the floats `given` as those of tensor `name`, held between two values."""
        scale = self.plan.scales[name]
        self.coded[name] = self.quantized(f"{name}_codes", given, scale, low, high)

    def quantized(
        self,
        name: str,
        given: str,
        scale: Scale,
        low: float = -INFINITE,
        high: float = INFINITE,
    ) -> str:
        first, last = _ends(scale, low, high)
        whole = (first, last) == (0, 255)
        out = name if whole else f"{name}_free"
        grid = self._grid(name, scale)
        self.nodes.append(helper.make_node("QuantizeLinear", [given, *grid], [out]))
        return out if whole else self.hold(out, name, first, last)

    def hold(self, given: str, name: str, first: int, last: int) -> str:
        """Codes from `first` to `last`."""
        ends = [
            self.constant(f"{name}_{word}", np.array(end, np.uint8))
            for word, end in (("first", first), ("last", last))
        ]
        self.nodes.append(helper.make_node("Clip", [given, *ends], [name]))
        return name

    # operations

    def _float(self, op: Op) -> None:
        given = [
            self.wide(name) if name and name not in self.plan.flow.constants else name
            for name in op.node.input
        ]
        self._compute(op, op.node, given, coded=False)

    def _compute(self, op: Op, node: onnx.NodeProto, given: Sequence[str], coded: bool) -> None:
        """A node on floats, which become codes if `coded`."""
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        del copied.input[:], copied.output[:]
        copied.input.extend(given)
        self.nodes.append(copied)
        bounded = (op.low, op.high) != (-INFINITE, INFINITE) and op.kind is not Kind.MOVE
        if not (coded or bounded):
            copied.output.extend(op.outputs)
            return
        out = op.outputs[0]
        copied.output.append(f"{out}_exact")
        if coded:
            self.quantize(out, f"{out}_exact", op.low, op.high)
            return
        ends = [
            self.constant(f"{out}_{word}", np.array(end, np.float32)) if abs(end) < INFINITE else ""
            for word, end in (("least", op.low), ("most", op.high))
        ]
        self.nodes.append(helper.make_node("Clip", [f"{out}_exact", *ends], [out]))

    def _move(self, op: Op) -> None:
        given = self.code(op.inputs[0])
        if op.node.op_type in ("Relu", "Clip"):
            first, last = _ends(self.plan.scales[op.outputs[0]], op.low, op.high)
            name = f"{op.outputs[0]}_codes"
            self.coded[op.outputs[0]] = self.hold(given, name, first, last)
            return
        node = onnx.NodeProto()
        node.CopyFrom(op.node)
        node.input[0] = given
        for i, name in enumerate(op.outputs):
            self.coded[name] = node.output[i] = f"{name}_codes"
        self.nodes.append(node)

    def _gate(self, op: Op) -> None:
        """A hard sigmoid is the codes themselves on a grid of a sixth of the step, from -3 on."""
        name, out = op.inputs[0], op.outputs[0]
        scale, codes = self.plan.scales[name], self.code(name)
        if 2 * scale.zero < 255:
            codes = self.hold(codes, f"{out}_open", 0, 2 * scale.zero)
        if op.kind is Kind.HARD_SIGMOID:
            self.coded[out] = codes
            return
        grid = self._grid(f"{out}_gate", Scale(scale.scale / 6, 0))
        gate = f"{out}_gate"
        self.nodes.append(helper.make_node("DequantizeLinear", [codes, *grid], [gate]))
        self._compute(op, helper.make_node("Mul", [], []), [self.wide(name), gate], coded=True)

    def _layer(self, op: Op) -> None:
        given, scale = self._given(op)
        weight, steps = self._folded(op)
        inputs = [given]
        bias = np.zeros(len(steps)) if op.bias is None else op.bias.astype(np.float64)
        match op.kind:
            case Kind.NORM:
                node = helper.make_node("Conv", [], [], op.node.name, group=len(steps))
            case Kind.GEMM:
                node = helper.make_node("Gemm", [], [], op.node.name, transB=1)
            case _:
                node = op.node
        name = op.layer if op.layer and op.layer not in self.named else op.outputs[0]
        self.named.add(name)
        if op.kind is not Kind.MATMUL:
            weight, steps = make_room(weight, steps, bias, scale.scale)
        across = weight.T if op.kind is Kind.MATMUL else weight
        axis = 1 if op.kind is Kind.MATMUL else 0
        inputs.append(self._dequantized(f"{name}.weight", across, steps.astype(np.float32), axis))
        if op.kind is Kind.MATMUL:
            return self._product(op, node, inputs)
        if op.bias is not None:
            unit = np.float32(scale.scale) * steps.astype(np.float32)
            whole = np.clip(np.rint(bias / unit.astype(np.float64)), -MOST_BIAS, MOST_BIAS)
            inputs.append(self._dequantized(f"{name}.bias", whole.astype(np.int32), unit, 0))
        return self._compute(op, node, inputs, coded=gives_codes(self.plan, op))

    def _product(self, op: Op, node: onnx.NodeProto, inputs: list[str]) -> None:
        out = op.outputs[0]
        if op.bias is None:
            return self._compute(op, node, inputs, coded=False)
        self.nodes.append(helper.make_node("MatMul", inputs, [f"{out}_product"], node.name))
        bias = self.constant(f"{out}_bias", op.bias.astype(np.float32))
        self.nodes.append(helper.make_node("Add", [f"{out}_product", bias], [out]))
        return None

    def _given(self, op: Op) -> tuple[str, Scale]:
        """A layer's input on its grid."""
        name = op.inputs[0]
        if op.layer not in self.plan.apart:
            self.code(name)
            return self.wide(name), self.plan.scales[name]
        scale = self.plan.input_scales[op.layer]
        separate = f"{op.outputs[0]}_input"
        codes = self.quantized(f"{separate}_codes", self.wide(name), scale)
        given = [codes, *self._grid(f"{separate}_codes", scale)]
        self.nodes.append(helper.make_node("DequantizeLinear", given, [separate]))
        return separate, scale

    def _folded(self, op: Op) -> tuple[Array, Array]:
        """Codes and steps of a layer with its factor multiplied in."""
        assert op.weight is not None
        if op.kind is Kind.NORM:
            assert op.factor is not None
            # one weight per channel, held exactly by the largest code
            ones = np.full(op.weight.shape, MOST, np.int8)
            weight = Codes(ones, np.full(len(ones), 1 / MOST, np.float32))
        else:
            weight = self.codes[op.layer]
        return multiplied(weight, op.factor)

    def _dequantized(self, name: str, codes: Array, steps: Array, axis: int) -> str:
        given = [
            self.constant(f"{name}_codes", codes),
            self.constant(f"{name}_scale", steps),
            self.constant(f"{name}_zero", np.zeros(len(steps), codes.dtype)),
        ]
        out = f"{name}_value"
        self.nodes.append(helper.make_node("DequantizeLinear", given, [out], axis=axis))
        return out


def _ends(scale: Scale, low: float, high: float) -> tuple[int, int]:
    """The first and the last code between two values, of those that the grid has."""
    first = 0 if low == -INFINITE else round(min(max(low / scale.scale, -1e4), 1e4)) + scale.zero
    last = 255
    if high != INFINITE:
        last = round(min(high / scale.scale, 1e4)) + scale.zero
    return min(max(first, 0), scale.high), max(min(last, scale.high), 0)
