"""The backends that can run a model: what there is to say of each without running it. No torch.

`compression/export/backends.py` adds how each prepares a call.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

EAGER, COMPILE, ONNX, INT8 = "eager", "compile", "onnx", "onnx-int8"
SPARSE = "2:4"


class DType(StrEnum):
    """What kernels compute in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"

    @property
    def bytes(self) -> int:
        """Bytes of one value."""
        return {DType.FLOAT32: 4, DType.INT8: 1}.get(self, 2)


@dataclass(frozen=True)
class Backend:
    """A backend, as figures, tables and charts name it.

    `dtype` is what its kernels compute in, `kernels` what is special about them; `against` is the
    backend that runs the original beside it, `pip_packages` what to install for it beyond this
    program. A `slow` one takes so long to prepare that it is prepared once for each model.
    """

    id: str
    title: str
    dtype: DType
    devices: tuple[str, ...]
    against: str
    kernels: str = ""
    pip_packages: str = ""
    slow: bool = False

    @property
    def precision(self) -> str:
        """The dtype, and what is special about the kernels."""
        return f"{self.dtype}, {self.kernels}" if self.kernels else str(self.dtype)

    @property
    def skips_zeros(self) -> bool:
        """Whether its kernels leave out products by zeros, where these are in its pattern."""
        return self.kernels == SPARSE


_CPU, _CUDA, _BOTH = ("cpu",), ("cuda",), ("cpu", "cuda")
_OPENVINO = "compression-dashboard[openvino]"
BACKENDS: dict[str, Backend] = {
    backend.id: backend
    for backend in (
        Backend(EAGER, "PyTorch", DType.FLOAT32, _BOTH, EAGER),
        Backend(
            COMPILE,
            "PyTorch, compiled",
            DType.FLOAT32,
            _BOTH,
            COMPILE,
            kernels="compiled",
            slow=True,
        ),
        Backend(ONNX, "ONNX Runtime", DType.FLOAT32, _CPU, ONNX),
        Backend(INT8, "ONNX Runtime, int8", DType.INT8, _CPU, ONNX),
        Backend("openvino", "OpenVINO", DType.FLOAT32, _CPU, "openvino", pip_packages=_OPENVINO),
        Backend("openvino-int8", "OpenVINO, int8", DType.INT8, _CPU, "openvino", "", _OPENVINO),
        Backend("float16", "PyTorch, float16", DType.FLOAT16, _CUDA, EAGER),
        Backend("bfloat16", "PyTorch, bfloat16", DType.BFLOAT16, _CUDA, EAGER),
        Backend("2:4", "PyTorch, 2:4 kernels", DType.FLOAT16, _CUDA, EAGER, kernels=SPARSE),
    )
}


def title(backend: str) -> str:
    """The name of a backend; its id where it has none, as in runs of other versions."""
    return BACKENDS[backend].title if backend in BACKENDS else backend
