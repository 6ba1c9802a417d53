"""The names of backends."""

from __future__ import annotations

FLOAT, INT8 = "onnx", "onnx-int8"
_TITLES = {
    "eager": "PyTorch",
    "compile": "PyTorch, compiled",
    FLOAT: "ONNX Runtime",
    INT8: "ONNX Runtime, int8",
    "openvino": "OpenVINO",
    "openvino-int8": "OpenVINO, int8",
    "float16": "PyTorch, float16",
    "bfloat16": "PyTorch, bfloat16",
    "2:4": "PyTorch, 2:4 kernels",
}


def title(backend: str) -> str:
    """The name of a backend; its id where it has none."""
    return _TITLES.get(backend, backend)
