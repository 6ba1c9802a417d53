"""Random changes of training images, and shuffled batches of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from compression.data.splits import Split

# What an image may be shifted by, of its size, and the sides of the square that is erased.
_SHIFT, _LEAST_SIDE, _SIDES = 1 / 16, 1 / 8, 9 / 32


def augment(images: Tensor, generator: torch.Generator, size: int = 32) -> Tensor:
    """Random flip, shift of up to a 16th and an erased square for half of the images.

    uint8 [n, c, h, h] in, uint8 [n, c, size, size] out, the whole batch at once; smaller images get
    a black margin. Erasing: Zhong et al., Random Erasing Data Augmentation (2017).
    """
    n, device = len(images), images.device
    shift = round(_SHIFT * size)
    margin = (size - images.shape[-1]) // 2 + shift

    def draw(high: int) -> Tensor:  # on the CPU: the same numbers wherever the images are
        return torch.randint(0, high, (n,), generator=generator).to(device)

    padded = F.pad(images, (margin, margin, margin, margin))
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)
    out = windows[torch.arange(n, device=device), :, draw(2 * shift + 1), draw(2 * shift + 1)]
    flip = draw(2).bool()
    out = torch.where(flip[:, None, None, None], out.flip(3), out)
    side = draw(2) * (round(_LEAST_SIDE * size) + draw(round(_SIDES * size)))
    top, left, at = draw(size), draw(size), torch.arange(size, device=device)
    rows = (at >= top[:, None]) & (at < (top + side)[:, None])
    columns = (at >= left[:, None]) & (at < (left + side)[:, None])
    return out.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def augmented(split: Split, images: Tensor, generator: torch.Generator) -> Tensor:
    """Some of a split's stored images, changed at random; what is no image stays as it is."""
    if split.preparation is None:
        return images
    return augment(images, generator, split.preparation.size or images.shape[-1])


def shuffled_batches(
    split: Split, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented, prepared images and labels in random order; the last short batch is dropped
    unless it is the only one (batch normalisation needs more than one image)."""
    order = torch.randperm(len(split), generator=generator)
    for start in range(0, max(len(split) - batch_size + 1, 1), batch_size):
        pick = order[start : start + batch_size]
        images = augmented(split, split.images[pick], generator)
        yield split.prepare(images), split.labels[pick]
