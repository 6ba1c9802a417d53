"""The data sets that are bundled, as tensors in memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compression.data.preparation import Preparation
from compression.data.splits import SPLIT_SEED, Dataset, Split
from compression.errors import CompressionError, InvalidInput
from compression.paths import assets_dir

INPUT_SHAPE = (3, 32, 32)
VALIDATION_SIZE = 5_000
CALIBRATION_SIZE = 2_000

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
FASHION_MNIST = Preparation((MEAN,), (STD,), channels=3, size=32)


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
    train = Split("train", images[rest], labels[rest], FASHION_MNIST)
    return Dataset(
        id="fashion-mnist",
        classes=FASHION_MNIST_CLASSES,
        train=train,
        calibration=replace(train.head(CALIBRATION_SIZE), name="calibration"),
        validation=replace(
            train, name="validation", images=images[held_out], labels=labels[held_out]
        ),
        test=Split(
            "test",
            _read_idx(raw / "t10k-images-idx3-ubyte.gz").unsqueeze(1),
            _read_idx(raw / "t10k-labels-idx1-ubyte.gz").long(),
            FASHION_MNIST,
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
