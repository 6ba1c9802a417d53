"""The packed model that a run is shipped from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from compression.catalogue.cards import Card, card, student_of
from compression.catalogue.examples import example_file, examples
from compression.errors import InvalidInput
from compression.export.packed.file import pack, unpack
from compression.measure.deployed_models import calibration_images
from compression.measure.evaluate_file import EvaluationTarget
from compression.methods.pipeline import compress
from compression.models.data import REPORT, Dataset, load_dataset
from compression.runs.progress import Report
from compression.runs.results import Run, State
from compression.runs.store import Store


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
    def subject(self) -> EvaluationTarget:
        split = REPORT if self.run.environment.get("split") == REPORT else "validation"
        return EvaluationTarget(card(self.run.model), self.data, split, 1, "prepared")

    @property
    def about(self) -> dict[str, Any]:
        """What every file says of itself."""
        run = self.run
        said: dict[str, Any] = {"model": run.model, "run": run.id, "recipe": run.recipe.brief}
        return {**said, "classes": self.data.classes} if self.data else said

    @property
    def structure(self) -> str:
        """What the model is but for its weights and widths."""
        return f"{self.card.architecture}-{self.card.classes}"

    def calibration(self) -> Tensor | None:
        """Prepared images [n, 3, h, w] to calibrate on; None where there are none."""
        return None if self.data is None else calibration_images(self.card)

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
    packed = store.files.get(run.id) or _shipped(run)
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
