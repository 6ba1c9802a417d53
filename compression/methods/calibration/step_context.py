"""What a step may need besides the model it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from compression.models.data import Dataset, prepare
from compression.models.hooks import hooked
from compression.models.requirements import without_images
from compression.models.target import Target
from compression.runs.progress import Curve, Progress

# Half of what a paired forward pass keeps at its widest layer, in bytes: bounds the images.
_WIDEST = 384 * 2**20
# Images for gradients: their cost is that of as many training steps.
GRADIENT_IMAGES = 1000


class StepResult(NamedTuple):
    """A model after a step, notes on it, and if it was trained, how that went."""

    model: nn.Module
    notes: tuple[str, ...] = ()
    curve: Curve | None = None
    stopped: bool = False


@dataclass(frozen=True)
class StepContext:
    """What a step works with: the network that it changes, the recipe's original, and the reference
    that the step's outputs are compared with; both lie on the device and are shared.

    `report` gets the fraction done; `watch`, for a step that has more to report, all of it. `at` is
    the step's place in the recipe, `checkpoint` the file where it may keep what it has so far.
    """

    target: Target
    reference: nn.Module
    original: nn.Module
    seed: int
    report: Callable[[float], None]
    watch: Callable[[Progress], None] | None = None
    at: int = 0
    checkpoint: Path | None = None

    @property
    def data(self) -> Dataset | None:
        """The model's labelled images."""
        return self.target.data

    @property
    def device(self) -> str:
        """Where the step runs, `cpu` or `cuda`."""
        return self.target.device

    def dataset(self, setting: str, value: object) -> Dataset:
        """The model's data.

        Raises:
            InvalidInput: there is none; it names the setting that needs it.
        """
        if self.data is None:
            raise without_images(self.target.name, setting, value)
        return self.data

    def images(self, setting: str, value: object) -> Tensor:
        """Prepared calibration images on the device, as many as memory is good for.

        Raises:
            InvalidInput: as `dataset`.
        """
        split = self.dataset(setting, value).calibration
        return prepare(split.images[: self._count]).to(self.device)

    def example(self) -> Tensor:
        """One image of the model's input size: [1, c, h, w]."""
        return self.target.images(1, "calibration").to(self.device)

    def labelled(self, setting: str, value: object) -> tuple[Tensor, Tensor]:
        """Prepared calibration images and their labels on the device, for gradients.

        Raises:
            InvalidInput: as `dataset`.
        """
        head = self.dataset(setting, value).calibration.head(GRADIENT_IMAGES)
        return prepare(head.images).to(self.device), head.labels.to(self.device)

    @cached_property
    def _count(self) -> int:
        widest = 0

        def see(_: str, __: nn.Module, ___: object, output: object) -> None:
            nonlocal widest
            if isinstance(output, Tensor):
                widest = max(widest, output.numel() * output.element_size())

        with torch.no_grad(), hooked(dict(self.reference.named_modules()), post=see):
            self.reference(self.example())
        return max(250, _WIDEST // widest)
