"""torchao's PT2E quantization, down to 2 bits by the range of codes its specs allow."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    QuantizationConfig,
    X86InductorQuantizer,
)

from tests.benchmarks.peers.cells import Job, Made

_LAYERS = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)


class WeightsOnly(Quantizer):  # type: ignore[misc]  # no types
    """Quantizes the weight of every convolution and linear layer and nothing else."""

    def __init__(self, spec: QuantizationSpec) -> None:
        super().__init__()
        self.spec = spec

    def annotate(self, model: GraphModule) -> GraphModule:
        for node in model.graph.nodes:
            if node.op == "call_function" and node.target in _LAYERS:
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map={node.args[1]: self.spec}, _annotated=True
                )
        return model

    def validate(self, model: GraphModule) -> None:
        """Every model will do."""


def weight_spec(bits: int, grid: str) -> QuantizationSpec:
    """Codes of `bits` bits per output channel; `narrow` leaves out the least code."""
    affine = grid == "affine"
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-(2 ** (bits - 1)) + (grid == "narrow"),
        quant_max=2 ** (bits - 1) - 1,
        qscheme=torch.per_channel_affine if affine else torch.per_channel_symmetric,
        ch_axis=0,
        is_dynamic=False,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver,
    )


def run(job: Job) -> Made:
    """Export, observe the calibration images, convert; all by torchao's own functions."""
    bits, batch = job.cell.weight_bits or 8, torch.export.Dim("batch", min=2, max=4096)
    program = torch.export.export(
        job.model, (job.batches[0],), dynamic_shapes=({0: batch},), strict=True
    )
    quantizer = _quantizer(bits, job.cell.activation_bits, job.variant)
    prepared = prepare_pt2e(program.module(), quantizer)
    needed = job.batches if job.cell.activation_bits else job.batches[:1]
    with torch.no_grad():
        for x in needed:
            prepared(x)
    converted = convert_pt2e(prepared)
    return Made(lambda x: converted(x.contiguous()), {"codes": _codes(converted)})


def _quantizer(bits: int, activation_bits: int | None, variant: str) -> Quantizer:
    if activation_bits is None:
        return WeightsOnly(weight_spec(bits, variant))
    activations = QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=2**activation_bits - 1,
        qscheme=torch.per_tensor_affine,
        is_dynamic=False,
        observer_or_fake_quant_ctr=HistogramObserver if variant == "histogram" else MinMaxObserver,
    )
    config = QuantizationConfig(activations, activations, weight_spec(bits, "symmetric"), None)
    return X86InductorQuantizer().set_global(config)


def _codes(model: Any) -> float:
    """The most different codes in any weight, which proves the number of bits."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return max((float(t.unique().numel()) for t in tensors if t.dtype == torch.int8), default=0.0)
