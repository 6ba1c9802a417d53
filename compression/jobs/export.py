"""A finished run as a file of another kind, checked against the model that was measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from compression.catalogue.cards import Card, card, student_of
from compression.catalogue.examples import example_file, examples
from compression.catalogue.file_formats import FORMATS
from compression.errors import CompressionError, InvalidInput
from compression.export import NotExportable
from compression.export.onnx.float_graph import fixed_batch, float_graph
from compression.export.onnx.int8_graph import int8_graph
from compression.export.open_file import MARK, open_data
from compression.export.packed.file import pack, save, unpack
from compression.export.torch_program import write_program
from compression.measure.accuracy import agreement, predict, proportion
from compression.measure.comparison import Report, stage
from compression.measure.deployed_models import calibration_images
from compression.measure.evaluate_file import Subject, predictions_of
from compression.methods.pipeline import compress
from compression.models.data import Dataset, load_dataset
from compression.models.input_quantizers import input_grids, release_inputs
from compression.recipe.steps import Quantize
from compression.runs.results import Exported, Run, State
from compression.runs.store import Store

# Closest agreement of logits asked of a float32 file, relative to the largest logit.
TOLERANCE = 1e-3
_CHECKED = 64


@dataclass(frozen=True)
class Source:
    """A finished run and its packed file, and what there is to say about where that is from."""

    run: Run
    packed: bytes
    notes: tuple[str, ...] = ()

    @cached_property
    def card(self) -> Card:
        """The model's card, or its student's: what the file is a model of."""
        return student_of(card(self.run.model), self.run.recipe)

    @cached_property
    def data(self) -> Dataset | None:
        return load_dataset(self.card.dataset) if self.card.dataset else None

    @property
    def subject(self) -> Subject:
        return Subject(card(self.run.model), self.data, "validation", 1, "prepared")

    @property
    def about(self) -> dict[str, Any]:
        """What every file says of itself."""
        run = self.run
        said: dict[str, Any] = {"model": run.model, "run": run.id, "recipe": run.recipe.brief}
        return {**said, "classes": self.data.classes} if self.data else said

    def model(self) -> nn.Module:
        """The model as it was measured; a new one each time."""
        return unpack(self.packed)

    def images(self, count: int) -> Tensor:
        """Prepared images, float32 [count, 3, h, w]; noise where there are none."""
        return self.subject.images(count)


def source_of(store: Store, run: Run, device: str = "auto", report: Report | None = None) -> Source:
    """A run with its packed file: the one kept with it, or made again from its recipe.

    Raises:
        InvalidInput: the run is not done, or was stopped early and its file was not kept.
        CompressionError: it cannot be done again.
    """
    if run.state is not State.DONE:
        raise InvalidInput("run", run.id, f"a run that is done; this one is {run.state}")
    packed = store.file(run.id) or _shipped(run)
    if packed is not None:
        return Source(run, packed)
    if run.stopped_early:
        # done again from its recipe it would train to the end, and be another model
        raise InvalidInput("run", run.id, "one whose file was kept, for it was stopped early")
    made = compress(run.model, run.recipe, device=device, report=report)
    shape = student_of(card(run.model), run.recipe)
    said = {"model": run.model, "recipe": run.recipe.brief}
    packed = pack(made.model, architecture=shape.architecture, classes=shape.classes, details=said)
    return Source(run, packed, _remade(run, packed))


def _shipped(run: Run) -> bytes | None:
    """The file of a stored example, which is in older stores without it."""
    return next((example_file(e.name) for e in examples() if e.run.id == run.id), None)


def _remade(run: Run, packed: bytes) -> tuple[str, ...]:
    note = "The run's own file was not kept: its recipe was applied again"
    if hashlib.sha256(packed).hexdigest() == run.environment.get("artifact_sha256"):
        return (f"{note}, and gave the same file to the last bit.",)
    size = run.compressed.artifact_bytes if run.compressed else 0
    return (
        f"{note}, and gave a file of {len(packed)} bytes that differs from the measured one of "
        f"{size}: other versions or another machine. The run's figures need not be this file's.",
    )


@dataclass(frozen=True)
class Ready:
    """The bytes of a file, and how it does. `batch` is the only number of images it takes."""

    data: bytes
    exported: Exported
    batch: int | None


@dataclass(frozen=True)
class _Made:
    data: bytes
    notes: tuple[str, ...] = ()
    batch: int | None = None


def _packed(source: Source) -> _Made:
    return _Made(source.packed)


def _onnx(source: Source) -> _Made:
    graph = float_graph(source.model(), _structure(source), source.images(1))
    notes: tuple[str, ...] = ()
    if input_grids(source.model()):
        notes = ("Its layers take their inputs as they come: the grids they were on are left out.",)
    return _graph(source, graph, notes)


def _int8(source: Source) -> _Made:
    if source.data is None:
        raise NotExportable(
            f"an int8 graph of {source.run.model} needs images to calibrate on, and there are none"
        )
    images = calibration_images(source.card)
    made = int8_graph(source.model(), _structure(source), images[:1], images)
    notes = made.notes
    quantized = [s for s in source.run.recipe.steps if isinstance(s, Quantize)]
    if any((s.average_bits or s.bits) < 8 for s in quantized):
        notes = (*notes, "Weights of fewer than 8 bits run in int8 kernels, as a byte each.")
    return _graph(source, made.graph, notes)


def _graph(source: Source, graph: onnx.ModelProto, notes: tuple[str, ...]) -> _Made:
    for key, value in source.about.items():
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        graph.metadata_props.add(key=f"{MARK}{key}", value=text)
    batch = fixed_batch(graph)
    return _Made(graph.SerializeToString(), (*notes, *_batch_note(batch)), batch)


def _program(source: Source) -> _Made:
    said = json.dumps(source.about, separators=(",", ":"))
    data, free = write_program(source.model(), source.images(1), said)
    batch = None if free else 1
    return _Made(data, _batch_note(batch), batch)


def _batch_note(batch: int | None) -> tuple[str, ...]:
    if batch is None:
        return ()
    return (f"It takes {batch} image{'s' if batch > 1 else ''} at a time, no other number.",)


def _structure(source: Source) -> str:
    return f"{source.card.architecture}-{source.card.classes}"


MAKERS: dict[str, Callable[[Source], _Made]] = {
    "packed": _packed,
    "onnx": _onnx,
    "onnx-int8": _int8,
    "pt2": _program,
}


def make(source: Source, form: str, report: Report | None = None) -> Ready:
    """A run's file of a kind, loaded back and held against the measured model.

    Raises:
        InvalidInput: an unknown kind of file.
        NotExportable: the model cannot be brought into that form, or would answer otherwise.
    """
    if form not in MAKERS:
        raise InvalidInput("format", form, ", ".join(MAKERS))
    tell = stage(report, f"Making the {FORMATS[form].title}")
    made = MAKERS[form](source)
    tell(0.5)
    exported = _compare(source, form, made)
    tell(1.0)
    return Ready(made.data, exported, made.batch)


def _compare(source: Source, form: str, made: _Made) -> Exported:
    """Run the file on validation images beside the model."""
    subject, model = source.subject, source.model()
    opened = open_data(made.data, source.card.input_shape, trusted=True)
    difference = _difference(source, form, opened.predict, made.batch)
    if form != "onnx-int8" and difference > TOLERANCE:
        raise NotExportable(
            f"the {FORMATS[form].title} answers otherwise than PyTorch, by {difference:.1g} of the "
            "largest answer"
        )
    exported = Exported(
        format=form,
        file_bytes=len(made.data),
        difference=difference,
        notes=(*source.notes, *made.notes),
    )
    if source.data is None:
        return exported
    own, before = predictions_of(opened, subject), predict(model, source.data.validation)
    same = agreement(before, own)
    top1 = proportion(int(own.right.sum()), len(own.labels))
    return exported.model_copy(update={"agreement": same, "top1": top1})


def _difference(
    source: Source, form: str, run: Callable[[Tensor], Tensor], batch: int | None
) -> float:
    """Largest difference of a logit from the model's, over the largest."""
    model, images = source.model(), source.images(batch or _CHECKED)
    if form == "onnx":
        release_inputs(model)
    # Sums in another order can put an input on the next value of its grid, which is no fault.
    last = form == "packed"
    layout = torch.channels_last if last else torch.contiguous_format
    model, images = model.to(memory_format=layout), images.contiguous(memory_format=layout)
    with torch.inference_mode():
        expected = model(images)
    most = float(expected.abs().max())
    return float((run(images) - expected).abs().max()) / (most or 1.0)


def write(path: Path, data: bytes) -> str:
    """Write a file whole or not at all, read it back, and give its SHA-256.

    Raises:
        CompressionError: it cannot be written, or does not read back the same.
    """
    save(path, data)
    digest = hashlib.sha256(data).hexdigest()
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise CompressionError(f"{path} does not read back as it was written; is the disk sound?")
    return digest
