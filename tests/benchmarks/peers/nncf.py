"""NNCF: post-training quantization, and pruning by magnitude with batch-norm adaptation."""

from __future__ import annotations

from typing import Any

import nncf
import openvino as ov
import torch
from torch import Tensor

from tests.benchmarks.peers.cells import Job, Made, zeros

nncf.set_log_level(40)

_MODES = {
    "global": nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_GLOBAL,
    "layer": nncf.PruneMode.UNSTRUCTURED_MAGNITUDE_LOCAL,
}


def run(job: Job) -> Made:
    """As NNCF's documentation does it, with all calibration images."""
    if job.cell.sparsity is not None:
        return _prune(job, job.cell.sparsity)
    if job.variant == "torch":
        return Made(_quantize(job, job.model, job.batches))
    source = ov.convert_model(job.model, example_input=job.batches[0], input=[-1, 3, 32, 32])
    arrays = [batch.numpy() for batch in job.batches]
    full = "full" in job.variant
    quantized = _quantize(job, source, arrays, fast_bias_correction=not full)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": job.threads}
    compiled = ov.Core().compile_model(quantized, "CPU", settings)

    def predict(x: Tensor) -> Tensor:
        return torch.from_numpy(compiled(x.contiguous().numpy())[0].copy())

    return Made(predict)


def _quantize(job: Job, model: Any, batches: list[Any], **more: bool) -> Any:
    return nncf.quantize(
        model,
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches),
        **more,
    )


def _prune(job: Job, sparsity: float) -> Made:
    mode = _MODES[job.variant.split(",")[0]]
    model = nncf.prune(job.model, mode, ratio=sparsity, examples_inputs=job.batches[0])
    if "adapted" in job.variant:
        model = nncf.batch_norm_adaptation(model, calibration_dataset=nncf.Dataset(job.batches))
    model = nncf.strip(model, do_copy=False, strip_format=nncf.StripFormat.IN_PLACE)
    return Made(model, {"zeros": zeros(model)})
