"""A model's state dict as one coded stream, and back, bit for bit (version 3 of the file).

As `format_v2`, but quantized weights and masks are coded with what is known around them
(`context_coder`), zero points are not kept, for codes are counted from zero, nor are scales of
channels that are all zero; and numbers are taken apart by `float_planes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compression.export.packed.context_coder import Layer, Values, code
from compression.export.packed.context_model import as_shape
from compression.export.packed.float_planes import Array, join, split
from compression.export.packed.format_v2 import (
    DTYPES,
    GRID,
    MAX_CODES,
    SPARSE,
    as_tensor,
    codes_of,
    grids_of,
    is_channels_last,
    lay_out,
    role_of,
    smallest,
    sparse_mask,
)
from compression.export.packed.order0_coder import (
    Coded,
    Decoder,
    Symbols,
    encode,
    next_varint,
)
from compression.export.packed.symbol_coder import Reader, Writer

Key = tuple[str, int]


@dataclass(frozen=True)
class Entry:
    """How one tensor is stored. `sizes`: how many sizes its values can have, 1 for a mask, 0 for
    neither; `scales`: the shape of a grid's scales."""

    channels_last: bool
    dtype: int
    sizes: int = 0
    scales: tuple[int, ...] | None = None


class _Parts:
    """What is taken out of a state dict: numbers that say how, codes, and other numbers."""

    def __init__(self) -> None:
        self.index: list[int] = []
        self.layers: list[Layer] = []
        self.values: list[Values] = []
        self.pools: dict[Key, list[Array]] = {}

    def add(self, role: str, dtype: int, values: Array) -> None:
        self.pools.setdefault((role, dtype), []).append(values.astype(DTYPES[dtype]))

    def add_codes(self, tensor: Tensor, values: Values, sizes: int) -> None:
        self.layers.append(Layer(as_shape(tuple(tensor.shape)), sizes))
        self.values.append(values)


def write(model: nn.Module, state: Mapping[str, Tensor]) -> Coded:
    """The `state` of `materialize(model)`, coded. Grids are those of `model`."""
    parts, grids = _Parts(), grids_of(model)
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        parts.index.append(int(is_channels_last(tensor)))
        coded = codes_of(tensor, grids[name]) if name in grids else None
        if coded is not None:
            codes, grid = coded
            _put_codes(parts, codes - grid.zero_point, grid.scale)
        else:
            _put_values(parts, role_of(name, tensor), tensor)
    writer, guesses = Writer(), list[int]()

    def guess(layers: Sequence[Layer], values: Sequence[Values]) -> tuple[float, float]:
        guesses.extend(_measure(values))
        return _guess(guesses[-2], guesses[-1])

    code(parts.layers, parts.values, writer, guess)
    middles, arrays = _split(parts.pools)
    done = encode([*middles, *arrays], before=writer.flush)
    return Coded([*parts.index, *guesses, *done.index], done.words, done.raw)


def _put_codes(parts: _Parts, codes: Tensor, scale: Tensor) -> None:
    values = codes.contiguous().numpy().ravel()
    sizes = int(np.abs(values).max(initial=0)) + 1
    full = sum(1 << d for d, size in enumerate(scale.shape) if size != 1)
    scales = scale.numpy().ravel()[_used(values, codes.shape, tuple(scale.shape))]
    dtype = smallest(scales)
    parts.index += [GRID, sizes, full, dtype]
    parts.add_codes(codes, values, sizes)
    parts.add("scale", dtype, scales)


def _put_values(parts: _Parts, role: str, tensor: Tensor) -> None:
    values = tensor.numpy().ravel()
    dtype = smallest(values)
    mask = sparse_mask(values, dtype)
    if mask is not None:
        parts.index.append(SPARSE)
        parts.add_codes(tensor, mask.astype(np.int16), 1)
        values = values[mask]
    parts.index.append(dtype)
    parts.add(role, dtype, values)


def _used(values: Values, shape: Sequence[int], scales: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which scales have a code that is not zero."""
    alone = tuple(d for d, size in enumerate(scales) if size == 1)
    used: NDArray[np.bool_] = (values.reshape(shape) != 0).any(axis=alone)
    return used.ravel()


def _split(pools: Mapping[Key, Sequence[Array]]) -> tuple[list[Symbols], list[Symbols]]:
    middles: list[int] = []
    arrays: list[Symbols] = []
    for (_, dtype), numbers in pools.items():
        exponents, planes = split(numbers, DTYPES[dtype])
        middles += exponents
        arrays += planes
    return [Symbols(np.array(middles, np.uint8), 256)], arrays


def _measure(values: Sequence[Values]) -> tuple[int, int]:
    """Share of values that are not zero in 256ths, and their mean size in eighths."""
    total = sum(len(v) for v in values)
    there = sum(int(np.count_nonzero(v)) for v in values)
    size = sum(int(np.abs(v).sum(dtype=np.int64)) for v in values)
    return min(256 * there // max(total, 1), 255), max(8 * size // max(there, 1), 8)


def _guess(density: int, size: int) -> tuple[float, float]:
    if density > 255 or not 8 <= size <= 8 * MAX_CODES:
        raise ValueError("the index holds a guess out of range")
    return (density + 0.5) / 256, size / 8


def read_plan(index: Iterator[int], state: Mapping[str, Tensor]) -> list[Entry]:
    """How every tensor of the architecture's `state` is stored (ValueError: not what we write)."""
    return [_read_entry(index, like) for like in state.values()]


def _read_entry(index: Iterator[int], like: Tensor) -> Entry:
    layout, kind = next_varint(index), next_varint(index)
    floating = like.dtype == torch.float32
    if layout > int(like.ndim == 4) or kind > GRID:
        raise ValueError("the index names an unknown way of storing")
    sizes, scales = int(kind == SPARSE), None
    if kind == GRID:
        sizes, full = next_varint(index), next_varint(index)
        if not (1 <= sizes <= MAX_CODES and full < 1 << like.ndim):
            raise ValueError("the index holds a grid out of range")
        scales = tuple(n if full >> d & 1 else 1 for d, n in enumerate(like.shape))
    dtype = next_varint(index) if kind in (SPARSE, GRID) else kind
    if dtype >= len(DTYPES) or (dtype < 2) != floating or (sizes and not floating):
        raise ValueError("the index names a type that does not fit the architecture")
    return Entry(bool(layout), dtype, sizes, scales)


def read(
    index: Iterator[int], words: bytes, raw: bytes, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state dict, on the CPU. `state` gives names, shapes and types; its values are not read.

    Raises:
        ValueError: the data is not what `write` gives.
    """
    plan = read_plan(index, state)
    decoder = Decoder(index, words, raw)
    values = _read_values(plan, decoder, index, state)
    wanted: dict[Key, list[int]] = {}
    for (name, like), entry in zip(state.items(), plan, strict=True):
        wanted.setdefault(_key(name, like, entry), []).append(
            _numbers(entry, like, values.get(name))
        )
    middles = iter(decoder.take(sum(len(s) for (_, d), s in wanted.items() if d < 2), 256).tolist())
    pools = {
        key: iter(join(sizes, DTYPES[key[1]], lambda: next(middles), decoder.take))
        for key, sizes in wanted.items()
    }
    decoder.finish()
    return {
        name: lay_out(
            _restore(entry, like, values.get(name), next(pools[_key(name, like, entry)])),
            entry.channels_last,
        )
        for (name, like), entry in zip(state.items(), plan, strict=True)
    }


def _read_values(
    plan: Sequence[Entry], decoder: Decoder, index: Iterator[int], state: Mapping[str, Tensor]
) -> dict[str, Values]:
    """Codes and masks, by name."""
    named = [(n, t, e) for (n, t), e in zip(state.items(), plan, strict=True) if e.sizes]
    values = {name: np.zeros(like.numel(), np.int16) for name, like, _ in named}
    layers = [Layer(as_shape(tuple(like.shape)), entry.sizes) for _, like, entry in named]
    reader = Reader(decoder.coder)
    code(
        layers,
        list(values.values()),
        reader,
        lambda *_: _guess(next_varint(index), next_varint(index)),
    )
    return values


def _key(name: str, like: Tensor, entry: Entry) -> Key:
    return ("scale" if entry.scales is not None else role_of(name, like)), entry.dtype


def _numbers(entry: Entry, like: Tensor, values: Values | None) -> int:
    """How many numbers of a pool are this tensor's."""
    if values is None:
        return like.numel()
    if entry.scales is None:
        return int(np.count_nonzero(values))
    return int(np.count_nonzero(_used(values, like.shape, entry.scales)))


def _restore(entry: Entry, like: Tensor, values: Values | None, numbers: Array) -> Tensor:
    if values is None:
        return as_tensor(numbers, like)
    if entry.scales is None:
        full = np.zeros(like.numel(), numbers.dtype)
        full[values != 0] = numbers
        return as_tensor(full, like)
    scales = np.ones(int(np.prod(entry.scales, dtype=np.int64)), np.float32)
    scales[_used(values, like.shape, entry.scales)] = numbers
    codes = torch.from_numpy(values).reshape(like.shape).to(torch.float32)
    return codes * torch.from_numpy(scales).reshape(entry.scales)
