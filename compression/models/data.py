"""Data sets as tensors in memory, with seeded splits that never overlap.

`train` is for training, `calibration` (part of train) for statistics, `validation` for every
choice a person makes, `test` for the one look when a run is certified. Validation has two halves:
`search` is what a search or a training chooses by, `report` is what such a run is reported on.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from compression.errors import CompressionError, InvalidInput
from compression.paths import assets_dir

SPLIT_SEED = 20170828
INPUT_SHAPE = (3, 32, 32)
VALIDATION_SIZE = 5_000
CALIBRATION_SIZE = 2_000
SEARCH, REPORT = "search", "report"

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# Mean and standard deviation of the pixels (0 to 1) of the 55,000 training images.
MEAN, STD = 0.2860, 0.3530


@dataclass(frozen=True)
class Split:
    """Images as stored, uint8 [n, 1, 28, 28], and labels, int64 [n]."""

    name: str
    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, n: int) -> Split:
        """The first `n` images, or all of them if there are fewer."""
        return replace(self, images=self.images[:n], labels=self.labels[:n])


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
        half = by_class[which::2].sort().values
        return Split(name, self.validation.images[half], labels[half])

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


def prepare(images: Tensor) -> Tensor:
    """uint8 [n, 1, 28, 28] or [n, 1, 32, 32] to normalised float32 [n, 3, 32, 32]."""
    x = _pixels(images).sub_(MEAN).div_(STD)
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def prepare_raw(images: Tensor) -> Tensor:
    """As `prepare`, but pixels from 0 to 1 and in the default layout."""
    return _pixels(images).expand(-1, 3, -1, -1).contiguous()


def _pixels(images: Tensor) -> Tensor:
    """A new float32 tensor [n, 1, 32, 32] from 0 to 1, with a black margin where there was none."""
    if images.shape[-1] == 28:
        images = F.pad(images, (2, 2, 2, 2))
    return images.float().div_(255.0)


def noise(input_shape: tuple[int, ...], count: int) -> Tensor:
    """Standard normal images [count, *input_shape], the same ones each time: for what depends on
    the shape alone."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *input_shape, generator=generator)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random flip, shift of up to 2 pixels and an erased square for half of the images.

    uint8 [n, 1, 28, 28] in, uint8 [n, 1, 32, 32] out, the whole batch at once.
    Erasing: Zhong et al., Random Erasing Data Augmentation (2017).
    """
    n, device = len(images), images.device

    def draw(high: int) -> Tensor:  # on the CPU: the same numbers wherever the images are
        return torch.randint(0, high, (n,), generator=generator).to(device)

    windows = F.pad(images, (4, 4, 4, 4)).unfold(2, 32, 1).unfold(3, 32, 1)
    out = windows[torch.arange(n, device=device), :, draw(5), draw(5)]
    flip = draw(2).bool()
    out = torch.where(flip[:, None, None, None], out.flip(3), out)
    side = draw(2) * (4 + draw(9))
    top, left, at = draw(32), draw(32), torch.arange(32, device=device)
    rows = (at >= top[:, None]) & (at < (top + side)[:, None])
    columns = (at >= left[:, None]) & (at < (left + side)[:, None])
    return out.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def batches(split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Prepared images and labels in stored order."""
    for start in range(0, len(split), batch_size):
        stop = start + batch_size
        yield prepare(split.images[start:stop]), split.labels[start:stop]


def shuffled_batches(
    split: Split, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented, prepared images and labels in random order; the last short batch is dropped
    unless it is the only one (batch normalisation needs more than one image)."""
    order = torch.randperm(len(split), generator=generator)
    for start in range(0, max(len(split) - batch_size + 1, 1), batch_size):
        pick = order[start : start + batch_size]
        yield prepare(augment(split.images[pick], generator)), split.labels[pick]


def _read_idx(path: Path) -> Tensor:
    try:
        raw = gzip.decompress(path.read_bytes())  # checks length and CRC
    except (OSError, EOFError, zlib.error) as error:
        raise CompressionError(f"data file {path} cannot be read: {error}") from error
    dims = raw[3]
    shape = np.frombuffer(raw, ">u4", dims, offset=4).astype(int)
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape)
    return torch.from_numpy(values.copy())


def _fashion_mnist() -> Dataset:
    raw = assets_dir() / "FashionMNIST" / "raw"
    images = _read_idx(raw / "train-images-idx3-ubyte.gz").unsqueeze(1)
    labels = _read_idx(raw / "train-labels-idx1-ubyte.gz").long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    held_out, rest = order[:VALIDATION_SIZE], order[VALIDATION_SIZE:]
    train = Split("train", images[rest], labels[rest])
    return Dataset(
        id="fashion-mnist",
        classes=FASHION_MNIST_CLASSES,
        train=train,
        calibration=replace(train.head(CALIBRATION_SIZE), name="calibration"),
        validation=Split("validation", images[held_out], labels[held_out]),
        test=Split(
            "test",
            _read_idx(raw / "t10k-images-idx3-ubyte.gz").unsqueeze(1),
            _read_idx(raw / "t10k-labels-idx1-ubyte.gz").long(),
        ),
    )


DATASETS: dict[str, Callable[[], Dataset]] = {"fashion-mnist": _fashion_mnist}


@lru_cache(maxsize=2)
def load_dataset(dataset_id: str) -> Dataset:
    """Load a data set by id; kept in memory for the next call.

    Raises:
        InvalidInput: there is no such data set.
        CompressionError: a file of it is missing or damaged.
    """
    if dataset_id not in DATASETS:
        raise InvalidInput("dataset", dataset_id, ", ".join(DATASETS))
    return DATASETS[dataset_id]()


BATCH = 250
