"""The backends that can run a model: what there is to say of each without running it. No torch.

`compression/export/backends.py` adds how each prepares a call.
"""

from __future__ import annotations

from dataclasses import dataclass

EAGER, COMPILE, ONNX, INT8 = "eager", "compile", "onnx", "onnx-int8"


@dataclass(frozen=True)
class Backend:
    """A backend, as figures, tables and charts name it.

    `dtype` is what its kernels compute in, `kernels` what is special about them; `against` is the
    backend that runs the original beside it, `pip_packages` what to install for it beyond this
    program. A `slow` one takes so long to prepare that it is prepared once for each model.
    """

    id: str
    title: str
    dtype: str
    devices: tuple[str, ...]
    against: str
    kernels: str = ""
    pip_packages: str = ""
    slow: bool = False

    @property
    def precision(self) -> str:
        """The dtype, and what is special about the kernels."""
        return f"{self.dtype}, {self.kernels}" if self.kernels else self.dtype


_CPU, _CUDA, _BOTH = ("cpu",), ("cuda",), ("cpu", "cuda")
_OPENVINO = "compression-dashboard[openvino]"
BACKENDS: dict[str, Backend] = {
    backend.id: backend
    for backend in (
        Backend(EAGER, "PyTorch", "float32", _BOTH, EAGER),
        Backend(
            COMPILE,
            "PyTorch, compiled",
            "float32",
            _BOTH,
            COMPILE,
            kernels="compiled",
            slow=True,
        ),
        Backend(ONNX, "ONNX Runtime", "float32", _CPU, ONNX),
        Backend(INT8, "ONNX Runtime, int8", "int8", _CPU, ONNX),
        Backend("openvino", "OpenVINO", "float32", _CPU, "openvino", pip_packages=_OPENVINO),
        Backend("openvino-int8", "OpenVINO, int8", "int8", _CPU, "openvino", "", _OPENVINO),
        Backend("float16", "PyTorch, float16", "float16", _CUDA, EAGER),
        Backend("bfloat16", "PyTorch, bfloat16", "bfloat16", _CUDA, EAGER),
        Backend("2:4", "PyTorch, 2:4 kernels", "float16", _CUDA, EAGER, kernels="2:4"),
    )
}


def title(backend: str) -> str:
    """The name of a backend; its id where it has none, as in runs of other versions."""
    return BACKENDS[backend].title if backend in BACKENDS else backend
