"""An int8 ONNX graph made of the scales and codes that a compressed model has.

Quantize-dequantize form: uint8 activations per tensor, int8 weights per channel, int32 biases;
engines merge it into integer kernels (Jacob et al., 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, nn

from compression.export.onnx.bias_correction import correct_means, correction_images, target_means
from compression.export.onnx.calibration import observe_activations
from compression.export.onnx.cpu_features import saturates
from compression.export.onnx.float_graph import INPUT, fixed_batch, float_graph
from compression.export.onnx.operators import Flow, Kind, Op, read_flow
from compression.export.onnx.qdq_writer import emit
from compression.export.onnx.quantization_plan import (
    Plan,
    Scale,
    choose_groups,
    choose_ops,
    choose_scales,
)
from compression.export.onnx.weight_codes import Codes, weight_codes
from compression.models.input_quantizers import input_grids
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    grid_of,
)
from compression.runs.format import listed


@dataclass(frozen=True)
class Int8:
    """A graph, what to know of it, and for every layer "" or why it stays float32."""

    graph: onnx.ModelProto
    notes: tuple[str, ...]
    layers: Mapping[str, str]


def int8_graph(
    model: nn.Module,
    architecture: str,
    example: Tensor,
    images: Tensor,
    *,
    reduce_range: bool | None = None,
) -> Int8:
    """The compressed model with integer kernels: `images` float32 in, `logits` float32 out.

    `model` may hold its weights on grids, or have plain weights that lie on grids, as an unpacked
    file has; inputs lie on the grids that it holds them on. What has no grid gets one from
    `images` [n, 3, h, w], prepared; at most 256 are looked at. On 64 of them biases are set so that
    the means of all layers are the model's. `reduce_range` keeps weights to 7
    bits for processors whose 16-bit sums overflow; None asks this processor.

    Raises:
        NotExportable: the model cannot be exported, or ONNX Runtime cannot run it.
        CompressionError: a value inside is not finite on `images`, or there are none.
    """
    reduced = saturates() if reduce_range is None else reduce_range
    plain = float_graph(model, architecture, example)
    flow = read_flow(plain)
    input_scales, notes = _input_scales(input_grids(model))
    plan = choose_ops(flow, input_scales)
    looked_at = choose_groups(plan)
    choose_scales(plan, observe_activations(plain, looked_at, images) if looked_at else {})
    modules = dict(compressible(model))
    codes = {
        op.layer: _codes(op, modules[op.layer], reduced) for op in flow.ops if op.layer in modules
    }
    graph = emit(plain, plan, codes)
    if fixed_batch(plain) is None:
        few = correction_images(model.eval(), images)
        correct_means(graph, target_means(model, flow, few), few)
    layers = {name: _reason(name, codes) for name in modules}
    more = _graph_notes(flow, plan, codes, layers, reduced)
    return Int8(graph, (*notes, *plan.notes, *more), layers)


def _input_scales(
    grids: Mapping[str, QuantizationGrid],
) -> tuple[dict[str, Scale], tuple[str, ...]]:
    scales, per_channel = {}, []
    for name, grid in grids.items():
        if grid.scale.numel() == 1 and grid.low == 0 and grid.high <= 255:
            scales[name] = Scale(float(grid.scale), int(grid.zero_point), grid.high)
        else:
            per_channel.append(name)
    if not per_channel:
        return scales, ()
    note = (
        f"Inputs with a scale per channel have one scale in this graph, from calibration images: "
        f"{listed(per_channel)}."
    )
    return scales, (note,)


def _codes(op: Op, module: nn.Module, reduced: bool) -> Codes:
    assert op.weight is not None
    return weight_codes(torch.from_numpy(op.weight.copy()), grid_of(module), reduced)


def _reason(name: str, used: Mapping[str, Codes]) -> str:
    return "" if name in used else "its weight is used inside another operation, without a kernel"


def _graph_notes(
    flow: Flow, plan: Plan, codes: Mapping[str, Codes], layers: Mapping[str, str], reduced: bool
) -> tuple[str, ...]:
    notes = []
    if reduced:
        notes.append(
            "Weights have at most 7 bits: with 8, this processor's 16-bit sums would overflow."
        )
    why: dict[str, list[str]] = {}
    for name, weight in codes.items():
        if weight.rounded:
            why.setdefault(weight.rounded, []).append(name)
    notes += [f"{listed(names)}: {reason}." for reason, names in why.items()]
    left = [name for name, reason in layers.items() if reason]
    if left:
        notes.append(f"Layers that stay float32: {listed(left)}.")
    if loose := _loose(flow, layers):
        notes.append(f"Weights outside compressible layers stay float32: {listed(loose)}.")
    if floats := _float_kinds(flow, plan):
        notes.append(f"Operations that stay float32: {', '.join(floats)}.")
    return tuple(notes)


def _float_kinds(flow: Flow, plan: Plan) -> list[str]:
    """Operations on what images hold, and not on sizes alone, that run in float32."""
    from_images = {INPUT}
    kinds = set()
    for op in flow.ops:
        given = op.inputs[:1] if op.node.op_type == "CastLike" else op.inputs
        if op.node.op_type == "Shape" or not from_images & set(given):
            continue
        from_images |= set(op.outputs)
        if not plan.runs(op) and op.node.op_type not in _MOVED:
            kinds.add(op.node.op_type)
    return sorted(kinds)


# What moves values and computes nothing.
_MOVED = (
    *("Gather", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Split", "Slice"),
    *("Concat", "Pad", "Expand", "Cast", "CastLike", "Identity"),
)


def _loose(flow: Flow, layers: Mapping[str, str]) -> list[str]:
    """Matrices that belong to no layer and are multiplied with in float32."""
    parts = {n for op in flow.ops if op.node.op_type == "Transpose" for n in op.node.input}
    parts |= {n for op in flow.ops if op.kind is Kind.FLOAT for n in op.node.input}
    names = [n for n in flow.constants if n in parts and flow.constants[n].ndim >= 2]
    return [n for n in names if n.rpartition(".")[2].endswith("weight") and n[:-7] not in layers]
