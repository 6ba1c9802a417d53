"""What a step may need besides the model it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from compression.catalogue import Card
from compression.data import Dataset, prepare
from compression.errors import InvalidInput

# Half of what the walk holds at its widest layer, in bytes: it bounds the number of images.
_WIDEST = 384 * 2**20


@dataclass(frozen=True)
class Context:
    """The model's card, its original, the reference a step's output is held against, images."""

    card: Card
    reference: nn.Module
    original: nn.Module
    data: Dataset | None
    seed: int
    device: str
    report: Callable[[float], None]

    def dataset(self, asked: str, value: object) -> Dataset:
        """The model's data.

        Raises:
            InvalidInput: there is none; `asked` is the setting that needs it.
        """
        if self.data is None:
            raise InvalidInput(
                asked, value, f"a model with images to calibrate on; {self.card.id} has none here"
            )
        return self.data

    def images(self, asked: str, value: object) -> Tensor:
        """Prepared calibration images on the device, as many as memory is good for.

        Raises:
            InvalidInput: as `dataset`.
        """
        split = self.dataset(asked, value).calibration
        return prepare(split.images[: self._count]).to(self.device)

    def example(self) -> Tensor:
        """One image of the model's input size: [1, c, h, w]."""
        if self.data is not None:
            return prepare(self.data.calibration.images[:1]).to(self.device)
        noise = torch.Generator().manual_seed(0)
        return torch.randn(1, *self.card.input_shape, generator=noise).to(self.device)

    def labels(self) -> Tensor:
        """Labels of `images`."""
        assert self.data is not None
        return self.data.calibration.labels[: self._count].to(self.device)

    @cached_property
    def _count(self) -> int:
        widest = 0

        def see(_: nn.Module, __: object, output: object) -> None:
            nonlocal widest
            if isinstance(output, Tensor):
                widest = max(widest, output.numel() * output.element_size())

        held = [m.register_forward_hook(see) for m in self.reference.modules()]
        try:
            with torch.no_grad():
                self.reference(self.example())
        finally:
            for hook in held:
                hook.remove()
        return max(250, _WIDEST // widest)
