"""How stored images become what a model is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Preparation:
    """Normalises stored pixels, adds a margin where there is none, and repeats gray images.

    Args:
        mean: of the pixels from 0 to 1, one for each stored channel.
        std: their standard deviation, one for each stored channel.
        channels: how many channels the model is given; a gray image is repeated.
        size: height and width that the model is given; smaller images get a black margin. None
            leaves them as they are.

    Example:
        >>> import torch
        >>> from compression import Preparation
        >>> prepare = Preparation(mean=(0.5,), std=(0.5,), size=8)
        >>> prepare(torch.full((2, 1, 6, 6), 255, dtype=torch.uint8)).shape
        torch.Size([2, 3, 8, 8])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3
    size: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [n, c, h, w] to normalised float32 [n, channels, size, size], channels last."""
        pixels = self._pixels(images)
        x = pixels.sub_(_by_channel(self.mean, pixels)).div_(_by_channel(self.std, pixels))
        return self._repeated(x).contiguous(memory_format=torch.channels_last)

    def raw(self, images: Tensor) -> Tensor:
        """As a call, but pixels from 0 to 1 and in the default layout."""
        return self._repeated(self._pixels(images)).contiguous()

    def _pixels(self, images: Tensor) -> Tensor:
        """A new float32 tensor from 0 to 1, with a black margin where it is too small."""
        if self.size is not None and images.shape[-1] < self.size:
            margin = (self.size - images.shape[-1]) // 2
            images = F.pad(images, (margin, margin, margin, margin))
        return images.float().div_(255.0)

    def _repeated(self, x: Tensor) -> Tensor:
        return x.expand(-1, self.channels, -1, -1)


def _by_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device).view(1, -1, 1, 1)
