"""What a step may need besides the model it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from compression.data.splits import Dataset, PreparedBatches, Split
from compression.models.activation_memory import ActivationMemory, activation_memory
from compression.models.requirements import without_images
from compression.models.target import Target
from compression.runs.progress import Curve, Progress

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

    def images(self, setting: str, value: object, most: int | None = None) -> PreparedBatches:
        """Prepared calibration images on the device, in batches that memory is good for.

        Args:
            setting: what needs them, for a refusal.
            value: of that setting.
            most: the first so many alone.

        Raises:
            InvalidInput: as `dataset`.
        """
        split = self.dataset(setting, value).calibration
        split = split if most is None else split.head(most)
        return PreparedBatches(split, self.activations.at_once, self.device)

    def images_for_gradients(self, setting: str, value: object, most: int) -> PreparedBatches:
        """As `images`, in batches of which memory can hold all activations."""
        split = self.dataset(setting, value).calibration.head(most)
        return PreparedBatches(split, self.activations.at_once_for_gradients, self.device)

    def example(self) -> Tensor:
        """One image of the model's input size: [1, c, h, w]."""
        return self.target.images(1, "calibration").to(self.device)

    def labelled(self, setting: str, value: object, most: int = GRADIENT_IMAGES) -> Split:
        """Calibration images and their labels, for gradients.

        Raises:
            InvalidInput: as `dataset`.
        """
        return self.dataset(setting, value).calibration.head(most)

    @cached_property
    def activations(self) -> ActivationMemory:
        """What memory one image takes on its way through the reference."""
        return activation_memory(self.reference, self.example())
