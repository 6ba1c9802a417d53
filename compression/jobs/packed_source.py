"""The packed model that a run is shipped from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from compression.catalogue.cards import Card
from compression.catalogue.examples import example_file, examples
from compression.data.splits import REPORT, Dataset
from compression.errors import NotExportable
from compression.export.packed.file import unpack
from compression.measure.comparison import pack_result
from compression.measure.deployed_models import calibration_images
from compression.measure.evaluate_file import EvaluationTarget
from compression.methods.pipeline import compress
from compression.models.target import Target, target_of
from compression.runs.progress import Report
from compression.runs.records import file_not_kept, require_done
from compression.runs.results import Run
from compression.runs.store import Store


@dataclass(frozen=True)
class Source:
    """A finished run and its packed file, what the recipe was applied to, and what there is to say
    about where the file is from."""

    run: Run
    target: Target
    packed: bytes
    notes: tuple[str, ...] = ()

    @property
    def card(self) -> Card:
        """The model's card, or its student's: what the file is a model of.

        Raises:
            NotExportable: it is not in the catalogue.
        """
        if self.target.base.card is None:
            raise NotExportable(f"model {self.target.base.name}: it has no card")
        return self.target.base.card

    @property
    def data(self) -> Dataset | None:
        """The model's labelled images."""
        return self.target.data

    @property
    def evaluated_on(self) -> EvaluationTarget:
        """What files made of it are checked on."""
        split = REPORT if self.run.environment.get("split") == REPORT else "validation"
        return EvaluationTarget(self.target, self.data, split, 1, "prepared")

    @property
    def about(self) -> dict[str, Any]:
        """What every file says of itself."""
        run = self.run
        facts: dict[str, Any] = {"model": run.model, "run": run.id, "recipe": run.recipe.brief}
        return {**facts, "classes": self.data.classes} if self.data else facts

    @property
    def structure(self) -> str:
        """What the model is but for its weights and widths."""
        return self.target.base.structure

    def calibration(self) -> Tensor | None:
        """Prepared images [n, 3, h, w] to calibrate on; None where there are none."""
        return None if self.data is None else calibration_images(self.target)

    def model(self) -> nn.Module:
        """The model as it was measured; a new one each time."""
        return unpack(self.packed)

    def images(self, count: int) -> Tensor:
        """Prepared images, float32 [count, 3, h, w]; noise where there are none."""
        return self.evaluated_on.images(count)


def source_of(
    store: Store,
    run: Run,
    device: str = "auto",
    report: Report | None = None,
    *,
    split: str = "validation",
) -> Source:
    """A run with its packed file: the one kept with it, or made again from its recipe.

    Args:
        store: where the run and its file are.
        run: a run that is done.
        device: `auto`, `cpu` or `cuda`, where the recipe is applied again if need be, and where
            what is made of the source is measured.
        report: called often with how far it is.
        split: what is measured on.

    Raises:
        InvalidInput: the run is not done, or was stopped early and its file was not kept.
        CompressionError: it cannot be done again.
    """
    require_done(run)
    packed = store.files.get(run.id) or _shipped(run)
    if packed is None and run.stopped_early:
        raise file_not_kept(run)
    target = target_of(run.model, run.recipe, device=device, split=split)
    if packed is not None:
        return Source(run, target, packed, _replaced(run, packed))
    packed = pack_result(target, compress(target, run.recipe, report=report).model, run.recipe)
    return Source(run, target, packed, _remade(run, packed))


def _shipped(run: Run) -> bytes | None:
    """The file of a stored example, which is in older stores without it."""
    return next((example_file(e.name) for e in examples() if e.run.id == run.id), None)


def is_measured(run: Run, packed: bytes) -> bool:
    """Whether a file is, to the last bit, the one that the run's figures are of."""
    return hashlib.sha256(packed).hexdigest() == run.environment.get("artifact_sha256")


def _replaced(run: Run, packed: bytes) -> tuple[str, ...]:
    if "artifact_sha256" not in run.environment or is_measured(run, packed):
        return ()
    return ("The file kept with the run is not the one that was measured for it.",)


def _remade(run: Run, packed: bytes) -> tuple[str, ...]:
    note = "The run's own file was not kept: its recipe was applied again"
    if is_measured(run, packed):
        return (f"{note}, and gave the same file to the last bit.",)
    size = run.compressed.artifact_bytes if run.compressed else 0
    return (
        f"{note}, and gave a file of {len(packed)} bytes that differs from the measured one of "
        f"{size}: other versions, another number of threads or another machine. The run's figures "
        "need not be this file's.",
    )
