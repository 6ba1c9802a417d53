"""ONNX Runtime's `quantize_static`: QDQ, unsigned activations, signed weights per channel."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from tests.benchmarks.peers.cells import Job, Made

_CALIBRATIONS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
# Convolutions cannot have quantized weights alone: 16 bits leave the activations as they are.
_ACTIVATIONS = {8: QuantType.QUInt8, None: QuantType.QUInt16}
_WEIGHTS = {8: QuantType.QInt8, 4: QuantType.QInt4}
_OPSET = 21  # the first with 4-bit and 16-bit integers


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # no types
    def __init__(self, batches: list[Tensor]) -> None:
        self.rest = iter(batches)

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.rest, None)
        return None if batch is None else {"x": batch.numpy()}


def run(job: Job) -> Made:
    """Export, pre-process, quantize; predicts with the quantized graph in ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        source, clean, target = (Path(folder) / n for n in ("m.onnx", "c.onnx", "q.onnx"))
        torch.onnx.export(
            job.model,
            (job.batches[0],),
            source,
            dynamo=True,
            opset_version=_OPSET,
            input_names=["x"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
        quant_pre_process(source, clean)
        quantize_static(
            clean,
            target,
            _Reader(job.batches),
            per_channel=True,
            activation_type=_ACTIVATIONS[job.cell.activation_bits],
            weight_type=_WEIGHTS[job.cell.weight_bits or 8],
            calibrate_method=_CALIBRATIONS[job.variant],
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        session = onnxruntime.InferenceSession(target, options, ["CPUExecutionProvider"])
        facts = {"int4": _count(target, onnx.TensorProto.INT4)}

    def predict(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"x": x.contiguous().numpy()})[0])

    return Made(predict, facts)


def _count(path: Path, kind: int) -> float:
    """How many initializers are of a type, which proves the number of bits."""
    return float(sum(t.data_type == kind for t in onnx.load(path).graph.initializer))
