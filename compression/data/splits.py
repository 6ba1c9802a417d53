"""Labelled inputs in splits that never overlap.

`train` is for training, `calibration` for statistics, `validation` for every choice a person
makes, `test` for the one look when a run is certified. Validation has two halves: `search` is what
a search or a training chooses by, `report` is what such a run is reported on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from compression.data.preparation import Preparation
from compression.errors import InvalidInput

SPLIT_SEED = 20170828
SEARCH, REPORT = "search", "report"
# Images that are predicted at once.
BATCH = 250


@dataclass(frozen=True)
class Split:
    """Inputs as they are stored, and their labels.

    Args:
        name: of the split.
        images: uint8 [n, c, h, w], or whatever the model takes as it is, [n, ...].
        labels: int64 [n].
        preparation: what makes of stored images the model's input; None where that is stored.
    """

    name: str
    images: Tensor
    labels: Tensor
    preparation: Preparation | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, n: int) -> Split:
        """The first `n` images, or all of them if there are fewer."""
        return self.part(0, n)

    def part(self, start: int, stop: int) -> Split:
        """The images from `start` up to `stop`."""
        return replace(self, images=self.images[start:stop], labels=self.labels[start:stop])

    def picked(self, places: Tensor) -> Split:
        """The images at some places, int64 [m]."""
        return replace(self, images=self.images[places], labels=self.labels[places])

    def prepare(self, images: Tensor) -> Tensor:
        """Stored images of this split as the model's input."""
        return images if self.preparation is None else self.preparation(images)

    def prepare_raw(self, images: Tensor) -> Tensor:
        """As `prepare`, but with pixels from 0 to 1, for files that normalise by themselves."""
        return images if self.preparation is None else self.preparation.raw(images)

    def prepared(self, device: str = "cpu") -> Tensor:
        """All images of this split as the model's input, on a device."""
        return self.prepare(self.images).to(device)


@dataclass(frozen=True)
class Dataset:
    """A data set with its four splits, of which validation is halved for what searches."""

    id: str
    classes: tuple[str, ...]
    train: Split
    calibration: Split
    validation: Split
    test: Split

    @cached_property
    def search(self) -> Split:
        """The half of validation by which bisection and training choose."""
        return self._half(SEARCH, 0)

    @cached_property
    def report(self) -> Split:
        """The other half of validation: what a run that searched is reported on."""
        return self._half(REPORT, 1)

    def _half(self, name: str, which: int) -> Split:
        """Every second validation image of each class, in seeded order, as they are stored."""
        labels = self.validation.labels
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
        by_class = order[labels[order].argsort(stable=True)]
        return replace(self.validation.picked(by_class[which::2].sort().values), name=name)

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            InvalidInput: there is no such split.
        """
        names = ("train", "calibration", "validation", "test", SEARCH, REPORT)
        if name not in names:
            raise InvalidInput("split", name, ", ".join(names))
        split: Split = getattr(self, name)
        return split


def batches(split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Prepared images and labels in stored order."""
    for start in range(0, len(split), batch_size):
        part = split.part(start, start + batch_size)
        yield part.prepared(), part.labels


class PreparedBatches(Sequence[Tensor]):
    """A split's images as the model's input, made batch by batch when they are asked for.

    Args:
        split: images as stored.
        size: images in a batch; the last may be shorter.
        device: where the batches are.
    """

    def __init__(self, split: Split, size: int, device: str = "cpu") -> None:
        self.split, self.size, self.device = split, size, device

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    @overload
    def __getitem__(self, at: int) -> Tensor: ...
    @overload
    def __getitem__(self, at: slice) -> list[Tensor]: ...
    def __getitem__(self, at: int | slice) -> Tensor | list[Tensor]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        start = range(len(self))[at] * self.size
        return self.split.part(start, start + self.size).prepared(self.device)


def noise(input_shape: tuple[int, ...], count: int) -> Tensor:
    """Standard normal inputs [count, *input_shape], the same ones each time: for what depends on
    the shape alone."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *input_shape, generator=generator)
