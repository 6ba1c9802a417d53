"""Labelled inputs of your own as a data set: tensors, a `Dataset` or a `DataLoader` of PyTorch.

Nothing here knows what an input is: an image, a row of a table or the tokens of a text, as long as
it is a tensor that the model takes and all have one shape.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from compression.data.preparation import Preparation
from compression.data.splits import SPLIT_SEED, Dataset, Split
from compression.errors import DataError

# More than this is kept in a file that is mapped into memory, not in memory itself.
IN_MEMORY_BYTES = 512 * 2**20
_AT_ONCE = 256
_KINDS = "a pair of tensors, or a data set or loader of PyTorch that gives (input, label)"


def dataset_of(
    data: Any,
    *,
    train: Any = None,
    test: Any = None,
    classes: Sequence[str] | None = None,
    preparation: Preparation | None = None,
    name: str = "own",
    seed: int = SPLIT_SEED,
) -> Dataset:
    """Labelled inputs as a data set with its splits.

    Args:
        data: what is measured on: a pair of tensors (inputs [n, ...], labels [n]), or a `Dataset`
            or `DataLoader` of PyTorch that gives (input, label). Without `train`, half of each
            class, drawn by `seed`, is to calibrate on instead: what a method has seen is never
            measured on.
        train: what is calibrated and trained on, in one of the same forms.
        test: what a run is certified on, in one of the same forms; without it there is none.
        classes: their names, by label; the labels themselves if not given.
        preparation: what makes of inputs as they are given the model's own; None if they are that.
        name: what to call the data set.
        seed: of the draw.

    Raises:
        DataError: inputs or labels cannot be used; names the first that cannot.

    Example:
        >>> import torch
        >>> from compression import dataset_of
        >>> data = dataset_of((torch.randn(200, 8), torch.arange(200) % 4))
        >>> len(data.calibration), len(data.validation), data.classes
        (100, 100, ('0', '1', '2', '3'))
    """
    measured = _split("data", data, preparation)
    if train is not None:
        trained = _split("train", train, preparation)
    else:
        trained, measured = _halves(measured, seed)
    tested = _split("test", test, preparation) if test is not None else measured.head(0)
    largest = max((int(s.labels.max()) for s in (trained, measured, tested) if len(s)), default=0)
    names = tuple(classes) if classes is not None else tuple(map(str, range(largest + 1)))
    if largest >= len(names):
        raise DataError(f"classes: {len(names)} are named, but there is a label {largest}")
    return Dataset(
        id=name,
        classes=names,
        train=_named(trained, "train"),
        calibration=_named(trained, "calibration"),
        validation=_named(measured, "validation"),
        test=_named(tested, "test"),
    )


def _named(split: Split, name: str) -> Split:
    return Split(name, split.images, split.labels, split.preparation)


def _halves(split: Split, seed: int) -> tuple[Split, Split]:
    """Every second input of each class, in seeded order, and the others."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    by_class = order[split.labels[order].argsort(stable=True)]
    first, second = by_class[::2].sort().values, by_class[1::2].sort().values
    if not len(second):
        raise DataError(
            f"data: {len(split)} inputs cannot be halved; give more, or `train` to calibrate on"
        )
    return split.picked(first), split.picked(second)


def _split(field: str, source: Any, preparation: Preparation | None) -> Split:
    """All of a source, in its order."""
    if _is_pair(source):
        inputs, labels = (torch.as_tensor(part) for part in source)
    else:
        inputs, labels = _gathered(field, _batches(field, source))
    if not inputs.ndim or labels.shape != inputs.shape[:1]:
        raise DataError(
            f"{field}: labels have shape {list(labels.shape)} and inputs {list(inputs.shape)}; one "
            f"label is needed for each input"
        )
    if not len(labels):
        raise DataError(f"{field}: there are no inputs; give at least one")
    if labels.is_floating_point() or int(labels.min()) < 0:
        given = f"{labels.min().item():g}, of type {labels.dtype}"
        allowed = "labels are whole numbers from 0, the class of each input"
        raise DataError(f"{field}: a label is {given}; {allowed}")
    _require_finite(field, inputs)
    return Split(field, inputs, labels.long(), preparation)


def _require_finite(field: str, inputs: Tensor) -> None:
    if not inputs.is_floating_point():
        return
    for start in range(0, len(inputs), _AT_ONCE):
        finite = torch.isfinite(inputs[start : start + _AT_ONCE]).flatten(1).all(1)
        if not bool(finite.all()):
            place = start + int((~finite).nonzero()[0])
            raise DataError(f"{field}: input {place} has numbers that are not finite")


def _is_pair(source: Any) -> bool:
    arrays = Tensor | np.ndarray
    return isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], arrays)


def _batches(field: str, source: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of inputs and labels, of whatever gives them one by one or together."""
    together = isinstance(source, DataLoader) and source.batch_size is not None
    for at, item in enumerate(_items(field, source)):
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(f"{field}: item {at} is a {type(item).__name__}, not (input, label)")
        try:
            inputs, labels = (torch.as_tensor(part) for part in item)
        except (TypeError, ValueError, RuntimeError):
            kinds = ", ".join(type(part).__name__ for part in item)
            allowed = "a tensor and a whole number; a transform can make tensors of images"
            raise DataError(f"{field}: item {at} is ({kinds}), not {allowed}") from None
        yield (inputs, labels) if together else (inputs.unsqueeze(0), labels.reshape(1))


def _items(field: str, source: Any) -> Iterable[Any]:
    if isinstance(source, DataLoader):
        return source
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return (source[at] for at in range(len(source)))
    raise DataError(f"{field}: {type(source).__name__} is not {_KINDS}")


def _gathered(field: str, batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All inputs [n, ...] and labels [n]; many inputs lie in a file without a name."""
    pending: list[Tensor] = []
    labels: list[Tensor] = []
    shape: torch.Size | None = None
    with tempfile.TemporaryFile() as file:
        for inputs, some in batches:
            shape = inputs.shape[1:] if shape is None else shape
            if inputs.shape[1:] != shape:
                raise DataError(
                    f"{field}: input {sum(map(len, labels))} has shape {list(inputs.shape[1:])}, "
                    f"those before it have {list(shape)}"
                )
            labels.append(some)
            pending.append(inputs)
            if sum(part.nbytes for part in pending) > IN_MEMORY_BYTES:
                _append(file, pending)
        if not labels:
            raise DataError(f"{field}: there are no inputs; give at least one")
        everything = torch.cat(labels)
        if not file.tell():
            return torch.cat(pending), everything
        kind = pending[0].numpy().dtype if pending else inputs.numpy().dtype
        _append(file, pending)
        assert shape is not None
        # the map keeps the file alive
        mapped = np.memmap(file, kind, "r+", shape=(len(everything), *shape))
        return torch.from_numpy(mapped), everything


def _append(file: IO[bytes], pending: list[Tensor]) -> None:
    """Write what is pending to the end of a file, and forget it."""
    for part in pending:
        file.write(part.contiguous().numpy().tobytes())
    file.flush()
    pending.clear()
