"""The formats of file that a run can be exported to: what there is to say of each. No torch.

`compression/export/handlers.py` makes, opens and runs them, by the same ids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compression.runs.results import Measurement


@dataclass(frozen=True)
class FileFormat:
    """A format of file, as the command line, cards and downloads name it.

    `dtype` is what it computes in, `pip_packages` what runs it, and `can_run_code` whether code
    inside it may run when it is loaded. `label` and `use` are for the
    page: its name, and what it is for. Its size is what `measured_bytes` finds in a run, or else
    about `share` of the model's float32 weights.
    """

    id: str
    title: str
    extension: str
    pip_packages: str
    dtype: str
    label: str
    use: str
    measured_bytes: Callable[[Measurement], int | None] = lambda measured: None
    share: float = 1.0
    ending: str = ""
    mime: str = "application/octet-stream"
    can_run_code: bool = False

    @property
    def suffix(self) -> str:
        """How the name of such a file ends, where several formats of a run lie side by side."""
        return self.ending + self.extension


FORMATS: dict[str, FileFormat] = {
    entry.id: entry
    for entry in (
        FileFormat(
            "packed",
            "packed file",
            ".safetensors",
            "compression-dashboard",
            "float32",
            "Packed file",
            "The smallest. Loads in Python, with this program, as exactly the model measured here.",
            lambda measured: measured.artifact_bytes,
        ),
        FileFormat(
            "onnx",
            "ONNX graph",
            ".onnx",
            "numpy onnxruntime",
            "float32",
            "ONNX",
            "For ONNX Runtime, in any language, on a server, a phone or in a browser. Runs in "
            "float32.",
            lambda measured: measured.onnx_bytes,
        ),
        FileFormat(
            "onnx-int8",
            "int8 ONNX graph",
            ".onnx",
            "numpy onnxruntime",
            "int8",
            "ONNX, int8",
            "The fastest on a CPU. Weights under 8 bits run as int8 kernels: no faster, no smaller "
            "than 8 bits.",
            lambda measured: measured.int8_bytes,
            share=0.25,
            ending="-int8",
        ),
        FileFormat(
            "pt2",
            "torch.export program",
            ".pt2",
            "numpy torch",
            "float32",
            "PyTorch program",
            "For PyTorch alone, without this program: a .pt2 file as torch.export writes it. Runs "
            "in float32.",
            can_run_code=True,
        ),
    )
}
