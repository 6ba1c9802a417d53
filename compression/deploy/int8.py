"""An int8 ONNX graph made of the scales and codes that a compressed model has.

Quantize-dequantize form: uint8 activations per tensor, int8 weights per channel, int32 biases;
engines merge it into integer kernels (Jacob et al., 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from torch import Tensor, nn

from compression.activations import input_grids
from compression.deploy.calibrate import observe
from compression.deploy.emit import emit
from compression.deploy.flow import LAYERS, Flow, Op, read_flow
from compression.deploy.graph import float_graph
from compression.deploy.hardware import saturates
from compression.deploy.plan import Plan, Scale, choose_groups, choose_ops, choose_scales
from compression.deploy.weights import Codes, layer_codes
from compression.layers import Grid, compressible

_WIDE = "its codes need more than 8 bits without a sign"


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
    `images` [n, 3, h, w], prepared; at most 256 are looked at. `reduce_range` keeps weights to 7
    bits for processors whose 16-bit sums overflow; None asks this processor.

    Raises:
        NotExportable: the model cannot be exported, or ONNX Runtime cannot run it.
        CompressionError: a value inside is not finite on `images`, or there are none.
    """
    reduced = saturates() if reduce_range is None else reduce_range
    plain = float_graph(model, architecture, example)
    flow = read_flow(plain)
    own, notes = _own_scales(input_grids(model))
    plan = choose_ops(flow, own)
    looked_at = choose_groups(plan)
    choose_scales(plan, observe(plain, looked_at, images) if looked_at else {})
    modules = dict(compressible(model))
    used = {op.layer for op in flow.ops if op.layer in modules}
    codes = {name: layer_codes(modules[name], reduced) for name in used}
    graph, said = emit(plain, plan, codes)
    layers = {name: _reason(name, used) for name in modules}
    told = _told(flow, plan, codes, layers, reduced)
    return Int8(graph, (*notes, *plan.notes, *said, *told), layers)


def _own_scales(grids: Mapping[str, Grid]) -> tuple[dict[str, Scale], tuple[str, ...]]:
    found, per_channel = {}, []
    for name, grid in grids.items():
        if grid.scale.numel() == 1 and grid.low == 0 and grid.high <= 255:
            found[name] = Scale(float(grid.scale), int(grid.zero_point), grid.high)
        else:
            per_channel.append(name)
    if not per_channel:
        return found, ()
    note = (
        f"Inputs with a scale per channel have one scale in this graph, from calibration images: "
        f"{_some(per_channel)}."
    )
    return found, (note,)


def _reason(name: str, used: set[str]) -> str:
    return "" if name in used else "its weight is used inside another operation, without a kernel"


def _told(
    flow: Flow, plan: Plan, codes: Mapping[str, Codes], layers: Mapping[str, str], reduced: bool
) -> tuple[str, ...]:
    notes = []
    if reduced:
        notes.append("Weights have at most 7 bits, for this processor's 16-bit sums overflow else.")
    why: dict[str, list[str]] = {}
    for name, found in codes.items():
        if found.rounded:
            why.setdefault(found.rounded, []).append(name)
    notes += [f"{_some(names)}: {reason}." for reason, names in why.items()]
    left = [name for name, reason in layers.items() if reason]
    if left:
        notes.append(f"Layers that stay float32: {_some(left)}.")
    floats = sorted({o.node.op_type for o in flow.ops if _stays(plan, o)})
    if floats:
        notes.append(f"Operations that stay float32: {', '.join(floats)}.")
    return tuple(notes)


def _stays(plan: Plan, op: Op) -> bool:
    moved = op.kind == "move" or op.node.op_type in _FREE
    return not plan.runs(op) and not moved and op.kind not in LAYERS and bool(op.inputs)


# Sizes and places, which cost nothing.
_FREE = ("Shape", "Gather", "Cast", "CastLike", "Expand", "Range", "Sqrt", "Identity", "Concat")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
