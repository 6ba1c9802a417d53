"""Everything that runs a model here, ours and others', each as a call on one image batch."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from compression.export.onnx.float_graph import float_graph
from compression.export.onnx.int8_graph import int8_graph
from compression.export.onnx.sessions import session
from compression.measure.interleaved_timer import Call
from compression.methods.prune.channels import choose_channels, remove

CALIBRATION = 64


@dataclass(frozen=True)
class Case:
    """A model to time: the original, ours with 8-bit weights and inputs, and what it sees.

    `images` [n, 3, h, w] are for calibration; calls get the first `batch` of them.
    """

    name: str
    architecture: str
    original: nn.Module
    quantized: nn.Module
    images: Tensor
    batch: int
    threads: int
    ready: dict[str, float] = field(default_factory=dict)

    @property
    def example(self) -> Tensor:
        return self.images[: self.batch]

    @cached_property
    def float32(self) -> onnx.ModelProto:
        return float_graph(self.original, self.architecture, self.example)

    @cached_property
    def int8(self) -> onnx.ModelProto:
        """Our graph, from our scales and our rounding."""
        found = int8_graph(self.quantized, self.architecture, self.example, self.images)
        return found.graph

    @cached_property
    def narrow(self) -> nn.Module:
        """Half the channels of every layer gone, by magnitude."""
        model = copy.deepcopy(self.original)
        plan = choose_channels(
            model,
            architecture=self.architecture,
            example=self.images[:1],
            sparsity=0.5,
            scope="layer",
        )
        remove(model, plan)
        return model


def _eager(case: Case) -> Call:
    model = copy.deepcopy(case.original).to(memory_format=torch.channels_last).eval()
    x = case.example.to(memory_format=torch.channels_last)
    return _without_gradients(lambda: model(x))


def _compiled(case: Case) -> Call:
    torch._dynamo.reset()
    model = copy.deepcopy(case.original).to(memory_format=torch.channels_last).eval()
    x = case.example.to(memory_format=torch.channels_last)
    compiled = torch.compile(model)
    call = _without_gradients(lambda: compiled(x))
    call()
    return call


def _without_gradients(run: Callable[[], object]) -> Call:
    def call() -> None:
        with torch.inference_mode():
            run()

    return call


def _run_graph(graph: onnx.ModelProto, case: Case) -> Call:
    running = session(graph, case.threads)
    given = {running.get_inputs()[0].name: case.example.contiguous().numpy()}
    return lambda: running.run(None, given)


def _static(case: Case) -> Call:
    """ONNX Runtime's own quantizer: the same form as ours, its own ranges and rounding."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # no types
        def __init__(self) -> None:
            self.rest = iter(case.images.split(8))

        def get_next(self) -> dict[str, Any] | None:
            part = next(self.rest, None)
            return None if part is None else {"images": part.contiguous().numpy()}

    with tempfile.TemporaryDirectory() as folder:
        source, clean, target = (Path(folder) / f"{n}.onnx" for n in "mcq")
        onnx.save(case.float32, source)
        quant_pre_process(source, clean)
        quantize_static(
            clean,
            target,
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return _run_graph(onnx.load(target), case)


def _openvino(case: Case, model: Any, precision: str = "f32") -> Call:
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": case.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    x = case.example.contiguous().numpy()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    return request.infer


def _openvino_model(case: Case, graph: onnx.ModelProto) -> Any:
    import openvino as ov

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        onnx.save(graph, path)
        model = ov.Core().read_model(path)
    model.reshape([case.batch, *case.images.shape[1:]])
    return model


def _openvino_int8(case: Case) -> Call:
    import nncf

    nncf.set_log_level(40)
    parts = [p.contiguous().numpy() for p in case.images.split(case.batch) if len(p) == case.batch]
    made = nncf.quantize(
        _openvino_model(case, case.float32),
        nncf.Dataset(parts),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(parts),
    )
    return _openvino(case, made)


# The order is that of the table's columns.
ENGINES: dict[str, Callable[[Case], Call]] = {
    "PyTorch": _eager,
    "torch.compile": _compiled,
    "OpenVINO float32": lambda case: _openvino(case, _openvino_model(case, case.float32)),
    "ONNX Runtime float32": lambda case: _run_graph(case.float32, case),
    "half the channels": lambda case: _run_graph(
        float_graph(case.narrow, case.architecture, case.example), case
    ),
    "int8, ours": lambda case: _run_graph(case.int8, case),
    "int8, quantize_static": _static,
    "int8, ours, OpenVINO": lambda case: _openvino(case, _openvino_model(case, case.int8)),
    "int8, NNCF, OpenVINO": _openvino_int8,
}
BASE = "ONNX Runtime float32"


def make_ready(case: Case) -> tuple[dict[str, list[Call]], dict[str, str]]:
    """Two calls of each engine, made ready apart; and why an engine is missing, where one is."""
    calls, missing = {}, {}
    for name, make in ENGINES.items():
        started = time.perf_counter()
        try:
            first = make(case)
            case.ready[name] = time.perf_counter() - started
            # compiling again would only find what was compiled
            calls[name] = [first, first if name == "torch.compile" else make(case)]
        except Exception as error:  # whatever a library raises is its reason
            missing[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:150]}"
    return calls, missing
