"""Brevitas: its post-training flow for classifiers, with GPTQ and bias correction.

The functions are those of `brevitas_examples`, which the package ships and its documentation runs.
"""

from __future__ import annotations

from typing import Any

import torch
from brevitas.graph.quantize import preprocess_for_quantize
from brevitas_examples.imagenet_classification.ptq import ptq_common as ptq
from torch import nn
from torch.optim.swa_utils import update_bn

from tests.benchmarks.peers.cells import Job, Made

_FIRST_LAST = "layerwise_first_last_bit_width"


def run(job: Job) -> Made:
    """Fold batch norms, quantize, calibrate, GPTQ, correct biases or re-estimate batch norms."""
    grid, order, repair = job.variant.split(", ")
    loader = list(zip(job.batches, job.labels, strict=True))
    model = preprocess_for_quantize(
        job.model, equalize_iters=0, merge_bn=repair != "batch norm", trace_model=True
    )
    quantized = _quantized(model, job, grid)
    with torch.no_grad():
        quantized(job.batches[0])
    if job.cell.activation_bits is not None:
        ptq.calibrate(loader, quantized)
    ptq.apply_gptq(loader, quantized, act_order=order == "ordered")
    if repair == "batch norm":
        # Its own `calibrate_bn` takes the geometric mean of the old and the new variance.
        update_bn(job.batches, quantized)
    else:
        ptq.apply_bias_correction(loader, quantized)
    quantized.eval()
    return Made(quantized, {"codes": _codes(quantized)})


def _quantized(model: nn.Module, job: Job, grid: str) -> Any:
    """Every convolution and linear layer at the cell's bits, the first and the last too."""
    bits = job.cell.weight_bits
    return ptq.quantize_model(
        model,
        backend="layerwise",
        weight_bit_width=bits,
        act_bit_width=job.cell.activation_bits,
        bias_bit_width=None,
        weight_quant_granularity="per_channel",
        act_quant_percentile=99.999,
        act_quant_type="asym",
        scale_factor_type="float_scale",
        quant_format="int",
        weight_param_method="mse",
        weight_quant_type=grid,
        layerwise_first_last_bit_width=bits,
    )


def _codes(model: nn.Module) -> float:
    """The most different values in any output channel's weight, which proves the bits."""
    weights = (
        m.quant_weight().value.detach() for m in model.modules() if hasattr(m, "quant_weight")
    )
    return max(float(max(row.unique().numel() for row in w.flatten(1))) for w in weights)
