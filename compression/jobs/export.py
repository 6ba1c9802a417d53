"""A finished run as a file of another kind, checked against the model that was measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compression.catalogue.file_formats import FORMATS
from compression.errors import CompressionError, InvalidInput, NotExportable
from compression.export.handlers import HANDLERS, open_data
from compression.export.make_file import MadeFile
from compression.export.packed.file import save
from compression.jobs.packed_source import Source
from compression.measure.accuracy import agreement, predict
from compression.measure.evaluate_file import predictions_of
from compression.models.input_quantizers import remove_input_quantizers
from compression.runs.progress import Report, stage
from compression.runs.results import Exported
from compression.runs.statistics import proportion

# Closest agreement of logits asked of a float32 file, relative to the largest logit.
TOLERANCE = 1e-3
_CHECKED = 64


@dataclass(frozen=True)
class Ready:
    """The bytes of a file, and how it does. `batch` is the only number of images it takes."""

    data: bytes
    exported: Exported
    batch: int | None


def make(source: Source, form: str, report: Report | None = None) -> Ready:
    """A run's file of a kind, loaded back and compared with the measured model.

    Raises:
        InvalidInput: an unknown kind of file.
        NotExportable: the model cannot be brought into that form, or would predict differently.
    """
    if form not in HANDLERS:
        raise InvalidInput("format", form, ", ".join(HANDLERS))
    report_fraction = stage(report, f"Making the {FORMATS[form].title}")
    made = HANDLERS[form].make(source)
    report_fraction(0.5)
    exported = _compare(source, form, made)
    report_fraction(1.0)
    return Ready(made.data, exported, made.batch)


def _compare(source: Source, form: str, made: MadeFile) -> Exported:
    """Run the file on validation images beside the model."""
    evaluated_on, model = source.evaluated_on, source.model()
    opened = open_data(made.data, source.target.base.input_shape, trusted=True)
    difference = _difference(source, form, opened.predict, made.batch)
    if FORMATS[form].dtype == "float32" and difference > TOLERANCE:
        raise NotExportable(
            f"the {FORMATS[form].title} predicts differently from PyTorch: its logits differ by "
            f"{difference:.1g} of the largest one"
        )
    exported = Exported(
        format=form,
        file_bytes=len(made.data),
        difference=difference,
        notes=(*source.notes, *made.notes),
    )
    if source.data is None:
        return exported
    before = predict(model, source.data.split(evaluated_on.split))
    after = predictions_of(opened, evaluated_on)
    same = agreement(before, after)
    top1 = proportion(int(after.right.sum()), len(after.labels))
    return exported.model_copy(update={"agreement": same, "top1": top1})


def _difference(
    source: Source, form: str, run: Callable[[Tensor], Tensor], batch: int | None
) -> float:
    """Largest difference of a logit from the model's, over the largest."""
    model, images = source.model(), source.images(batch or _CHECKED)
    if form == "onnx":
        remove_input_quantizers(model)
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
