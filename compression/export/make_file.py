"""A compressed model as the bytes of a file, one function for each format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import onnx
from torch import Tensor, nn

from compression.errors import NotExportable
from compression.export.onnx.float_graph import fixed_batch, float_graph
from compression.export.onnx.int8_graph import int8_graph
from compression.export.open_file import MARK
from compression.export.torch_program import write_program
from compression.models.input_quantizers import input_grids
from compression.recipe.steps import Quantize
from compression.runs.results import Run


class ExportSource(Protocol):
    """A finished run with its model, as files are made of it."""

    @property
    def run(self) -> Run:
        """The run."""

    @property
    def packed(self) -> bytes:
        """Its packed file."""

    @property
    def structure(self) -> str:
        """What the model is but for its weights and widths."""

    @property
    def about(self) -> Mapping[str, Any]:
        """What every file says of itself."""

    def model(self) -> nn.Module:
        """The model as it was measured; a new one each time."""

    def images(self, count: int) -> Tensor:
        """Prepared images, float32 [count, 3, h, w]; noise where there are none."""

    def calibration(self) -> Tensor | None:
        """Prepared images [n, 3, h, w] to calibrate on; None where there are none."""


@dataclass(frozen=True)
class MadeFile:
    """The bytes of a file, and notes on them. `batch` is the only number of images it takes, None
    if any."""

    data: bytes
    notes: tuple[str, ...] = ()
    batch: int | None = None


def make_packed(source: ExportSource) -> MadeFile:
    """The run's packed file as it is."""
    return MadeFile(source.packed)


def make_onnx(source: ExportSource) -> MadeFile:
    """A float32 ONNX graph.

    Raises:
        NotExportable: the model cannot be exported.
    """
    graph = float_graph(source.model(), source.structure, source.images(1))
    notes: tuple[str, ...] = ()
    if input_grids(source.model()):
        notes = ("Layer inputs are not quantized in this file.",)
    return _graph(source, graph, notes)


def make_int8(source: ExportSource) -> MadeFile:
    """An int8 ONNX graph, its activations calibrated on images.

    Raises:
        NotExportable: the model cannot be exported, or has no images to calibrate on.
    """
    images = source.calibration()
    if images is None:
        raise NotExportable(
            f"an int8 graph of {source.run.model} needs images to calibrate on, and there are none"
        )
    int8 = int8_graph(source.model(), source.structure, images[:1], images)
    notes = int8.notes
    quantized = [s for s in source.run.recipe.steps if isinstance(s, Quantize)]
    if any((s.average_bits or s.bits) < 8 for s in quantized):
        notes = (*notes, "Weights of fewer than 8 bits run in int8 kernels, as a byte each.")
    return _graph(source, int8.graph, notes)


def _graph(source: ExportSource, graph: onnx.ModelProto, notes: tuple[str, ...]) -> MadeFile:
    for key, value in source.about.items():
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        graph.metadata_props.add(key=f"{MARK}{key}", value=text)
    batch = fixed_batch(graph)
    return MadeFile(graph.SerializeToString(), (*notes, *_batch_note(batch)), batch)


def make_program(source: ExportSource) -> MadeFile:
    """A torch.export program.

    Raises:
        NotExportable: the model cannot be exported.
    """
    about = json.dumps(source.about, separators=(",", ":"))
    data, free = write_program(source.model(), source.images(1), about)
    batch = None if free else 1
    return MadeFile(data, _batch_note(batch), batch)


def _batch_note(batch: int | None) -> tuple[str, ...]:
    if batch is None:
        return ()
    return (f"It takes {batch} image{'s' if batch > 1 else ''} at a time, no other number.",)
