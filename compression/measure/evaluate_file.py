"""How a file of a model does, whoever made it: accuracy, size and latency."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compression.catalogue.cards import card, cards, require_dataset
from compression.data.datasets import DATASETS, load_dataset
from compression.data.splits import BATCH, Dataset, Split, noise
from compression.errors import ArtifactError, InvalidInput
from compression.export.handlers import model_of, open_data
from compression.export.open_file import Opened
from compression.measure.accuracy import Predictions, compare, original_predictions
from compression.measure.interleaved_timer import time_undisturbed
from compression.measure.machine_peaks import cpu_name
from compression.models.target import Target, target_of
from compression.runs.format import busy_note
from compression.runs.results import Evaluation, Latency
from compression.runs.statistics import proportion

SPLITS = ("validation", "test")
MOST_THREADS = 256
_MOST_BYTES = 1 << 31


# What a file may want its pixels as.
INPUTS: dict[str, Callable[[Split, Tensor], Tensor]] = {
    "prepared": Split.prepare,
    "raw": Split.prepare_raw,
}


@dataclass(frozen=True)
class EvaluationTarget:
    """What a file is measured on, and against which original.

    Args:
        original: None where nobody says what the file was made of.
        data: without it there is only latency, on noise of the original's shape.
        split: the name of the split.
        threads: that latency is taken with.
        inputs: how the pixels are prepared, one of `INPUTS`.
    """

    original: Target | None
    data: Dataset | None
    split: str
    threads: int
    inputs: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: (channels, height, width)."""
        return self.original.input_shape if self.original else tuple(self.images(1).shape[1:])

    def images(self, count: int) -> Tensor:
        """The first images, float32 [count, 3, h, w]; noise where there are none."""
        if self.data is not None:
            head = self.data.split(self.split).head(count)
            return INPUTS[self.inputs](head, head.images).contiguous()
        assert self.original is not None
        return noise(self.original.input_shape, count)


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ArtifactError: it cannot be read, is no file, or is too large to be of a model here.
    """
    try:
        if not path.is_file():
            raise ArtifactError(f"{path}: there is no such file")
        if path.stat().st_size >= _MOST_BYTES:
            raise ArtifactError(f"{path}: 2 GiB or larger; no model file here is that large")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from None


def evaluate(
    path: Path,
    *,
    model: str | None = None,
    dataset: str | None = None,
    split: str = "validation",
    threads: int = 1,
    inputs: str = "prepared",
    known: Callable[[str], bool] = lambda _: False,
    trusted: bool = False,
) -> Evaluation:
    """Measure a file on a split.

    Args:
        path: the file.
        model: the id of the original that it is compared with; what the file says if not given.
        dataset: the id of the data set; the original's if not given.
        split: `validation` or `test`.
        threads: that latency is taken with.
        inputs: how the file takes its pixels, one of `INPUTS`.
        known: says of a SHA-256 whether the file was made here. Only then, or if `trusted`, is a
            kind of file opened that can run code.
        trusted: see above.

    Raises:
        InvalidInput: an unknown model, data set, split or kind of input, or too many threads.
        ArtifactError: the file is foreign, damaged, or not for the images of the data set.
    """
    _check(split, threads, inputs)
    if model is not None:
        card(model)
    data = read_file(path)
    digest = hashlib.sha256(data).hexdigest()
    try:
        subject = _subject(model or model_of(data), dataset, split, threads, inputs)
        opened = open_data(data, subject.shape, trusted or known(digest))
        accuracy = _accuracy(opened, subject)
        latency = _latency(opened, subject)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    if latency.on_busy_machine:
        accuracy["notes"] = (*accuracy["notes"], busy_note("it"))
    return Evaluation(
        file=path.name,
        format=opened.format,
        file_bytes=len(data),
        sha256=digest,
        model=subject.original.name if subject.original else None,
        dataset=subject.data.id if subject.data else None,
        split=split if subject.data else None,
        latency=latency,
        environment=_environment(subject),
        **accuracy,
    )


def _check(split: str, threads: int, inputs: str) -> None:
    if split not in SPLITS:
        raise InvalidInput("split", split, ", ".join(SPLITS))
    if inputs not in INPUTS:
        raise InvalidInput("input", inputs, ", ".join(INPUTS))
    if not 1 <= threads <= MOST_THREADS:
        raise InvalidInput("threads", threads, f"from 1 to {MOST_THREADS}")


def _subject(
    model: str | None, dataset: str | None, split: str, threads: int, inputs: str
) -> EvaluationTarget:
    if dataset is not None and dataset not in DATASETS:
        raise InvalidInput("dataset", dataset, ", ".join(DATASETS))
    # a file may say what it likes: an id that is not in the catalogue is none
    if model is None or model not in cards():
        data = load_dataset(dataset or next(iter(DATASETS)))
        return EvaluationTarget(None, data, split, threads, inputs)
    original = target_of(model, device="cpu", split=split)
    require_dataset(model, dataset, original.data.id if original.data else None)
    return EvaluationTarget(original, original.data, split, threads, inputs)


def _accuracy(opened: Opened, subject: EvaluationTarget) -> dict[str, Any]:
    empty = dict.fromkeys(("top1", "original_top1", "change", "flips", "agreement"))
    if subject.data is None:
        assert subject.original is not None
        note = f"No accuracy: there are no labelled images for {subject.original.name} yet."
        return {**empty, "notes": (note,)}
    _check_logits(opened, subject, len(subject.data.classes))
    predictions = predictions_of(opened, subject)
    n, right = len(predictions.labels), int(predictions.right.sum())
    finite = bool(predictions.logits.isfinite().all())
    notes = () if finite else ("Some of its logits are not finite.",)
    figures: dict[str, Any] = {**empty, "top1": proportion(right, n), "notes": notes}
    if subject.original is not None:
        before = original_predictions(subject.original, subject.data.split(subject.split))
        compared = compare(before, predictions)
        figures |= {
            "original_top1": compared.before,
            "change": compared.change,
            "flips": compared.flips,
            "agreement": compared.agreement,
        }
    return figures


def predictions_of(opened: Opened, subject: EvaluationTarget) -> Predictions:
    """The predictions of a file for all images of the split that it is evaluated on."""
    assert subject.data is not None
    split, form = subject.data.split(subject.split), INPUTS[subject.inputs]
    size = opened.batch or BATCH
    size *= max(1, BATCH // size)
    parts = [opened.predict(form(split, x).contiguous()) for x in split.images.split(size)]
    return Predictions(torch.cat(parts), split.labels)


def _check_logits(opened: Opened, subject: EvaluationTarget, classes: int) -> None:
    images = subject.images(opened.batch or 2)
    logits = opened.predict(images)
    if tuple(logits.shape) != (len(images), classes):
        raise ArtifactError(
            f"its logits for {len(images)} images have shape {list(logits.shape)}, allowed: "
            f"[{len(images)}, {classes}], a number for each class"
        )


def _latency(opened: Opened, subject: EvaluationTarget) -> Latency:
    batch = opened.batch or 1
    call = opened.call(subject.images(batch), subject.threads)
    session = time_undisturbed([[call]], subject.threads)
    return session.latency(0, opened.engine, subject.threads, batch)


def _environment(subject: EvaluationTarget) -> dict[str, Any]:
    return {
        "device": cpu_name(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "input": subject.inputs,
    }
