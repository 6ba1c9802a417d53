"""The kinds of file that a run can be exported as. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """`needs` is what pip installs to run it, `numbers` what it computes with."""

    title: str
    suffix: str
    needs: str
    numbers: str


FORMATS: dict[str, Format] = {
    "packed": Format("packed file", ".safetensors", "compression-dashboard", "float32"),
    "onnx": Format("ONNX graph", ".onnx", "numpy onnxruntime", "float32"),
    "onnx-int8": Format("int8 ONNX graph", ".onnx", "numpy onnxruntime", "int8"),
    "pt2": Format("torch.export program", ".pt2", "numpy torch", "float32"),
}
