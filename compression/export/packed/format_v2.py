"""A model's state dict as arrays of small symbols, and back, bit for bit.

Quantized weights become their codes, tensors with many zeros a mask and the values left, all other
numbers bytes: one array for every byte of a number, tensors of the same role together, so that the
bytes with the exponent, which repeat, are apart from those that do not. Names and shapes are not
kept: the architecture has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compression.export.packed.order0_coder import (
    Decoder,
    Symbols,
    entropy_bytes,
    next_varint,
    zigzag_decode,
    zigzag_encode,
)
from compression.models.parametrize import QuantizationGrid, grid_of

# What an entry of the state dict is stored as. The order is part of the format: only append.
DTYPES: tuple[np.dtype, ...] = tuple(
    np.dtype(code) for code in ("<f4", "<f2", "<i1", "<i2", "<i4", "<i8")
)
SPARSE = len(DTYPES)  # followed by the dtype of the values that are not zero
GRID = SPARSE + 1
_INT16 = DTYPES.index(np.dtype("<i2"))
# Bytes that a mask must save to pay for its own table.
_MASK_TABLE = 8
MAX_CODES = 256

Array = NDArray[np.generic]


class _Pools:
    """Numbers of the same role and dtype, joined in the order in which they come."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, int], list[Array]] = {}

    def add(self, role: str, dtype: int, values: Array) -> None:
        self.parts.setdefault((role, dtype), []).append(values.astype(DTYPES[dtype]))

    def symbols(self) -> Iterator[Symbols]:
        for (_, dtype), parts in self.parts.items():
            planes = np.concatenate(parts).view(np.uint8).reshape(-1, DTYPES[dtype].itemsize)
            for plane in planes.T:
                yield Symbols(np.ascontiguousarray(plane), 256)


def dissect(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[list[int], list[Symbols]]:
    """The `state` of `materialize(model)` as whole numbers that say how it is stored, and arrays.

    Grids are those of `model`; what does not lie on its grid bit for bit is stored as it is.
    """
    index: list[int] = []
    arrays: list[Symbols] = []
    pools = _Pools()
    grids = grids_of(model)
    for name, tensor in state.items():
        tensor = tensor.detach().cpu()
        index.append(int(is_channels_last(tensor)))
        coded = codes_of(tensor, grids[name]) if name in grids else None
        if coded is not None:
            _store_codes(*coded, index, arrays, pools)
        else:
            _store_values(role_of(name, tensor), tensor, index, arrays, pools)
    return index, arrays + list(pools.symbols())


def grids_of(model: nn.Module) -> dict[str, QuantizationGrid]:
    """The grids of quantized weights, by the weights' names in the state dict."""
    return {
        f"{name}.weight": grid
        for name, module in model.named_modules()
        if (grid := grid_of(module)) is not None
    }


def codes_of(tensor: Tensor, grid: QuantizationGrid) -> tuple[Tensor, QuantizationGrid] | None:
    """The codes of a weight and its grid, at the weight's rank; None if they would not give
    the weight back exactly."""
    scale, zero = (t.detach().cpu() for t in (grid.scale, grid.zero_point))
    scale, zero = torch.broadcast_tensors(scale, zero.to(torch.int16))
    lead = (1,) * (tensor.ndim - scale.ndim)
    grid = QuantizationGrid(
        scale.reshape(lead + scale.shape), zero.reshape(lead + zero.shape), grid.low, grid.high
    )
    if grid.high - grid.low >= MAX_CODES or tensor.dtype != torch.float32:
        return None
    codes = grid.encode(tensor)
    back = grid.decode(codes)
    same = torch.equal(back.view(torch.int32), tensor.view(torch.int32))
    return (codes, grid) if same else None


def _store_codes(
    codes: Tensor, grid: QuantizationGrid, index: list[int], arrays: list[Symbols], pools: _Pools
) -> None:
    full = sum(1 << d for d, size in enumerate(grid.scale.shape) if size != 1)
    has_zero = bool(grid.zero_point.any())
    index += [GRID, zigzag_encode(grid.low), grid.high - grid.low + 1, full, int(has_zero)]
    values = (codes - grid.low).to(torch.uint8).numpy().ravel()
    arrays.append(Symbols(values, grid.high - grid.low + 1))
    pools.add("scale", 0, grid.scale.numpy().ravel())
    if has_zero:
        pools.add("zero_point", _INT16, grid.zero_point.numpy().ravel())


def _store_values(
    role: str, tensor: Tensor, index: list[int], arrays: list[Symbols], pools: _Pools
) -> None:
    values = tensor.numpy().ravel()
    dtype = smallest(values)
    mask = sparse_mask(values, dtype)
    if mask is not None:
        index.append(SPARSE)
        arrays.append(Symbols(mask.view(np.uint8), 2))
        values = values[mask]
    index.append(dtype)
    pools.add(role, dtype, values)


def sparse_mask(values: Array, dtype: int) -> NDArray[np.bool_] | None:
    """Where numbers are not zero, if it pays to store that apart."""
    mask = values.view(f"u{values.itemsize}") != 0
    saved = (mask.size - np.count_nonzero(mask)) * DTYPES[dtype].itemsize
    marks = Symbols(mask.view(np.uint8), 2)
    pays = values.dtype == np.float32 and saved > entropy_bytes(marks) + _MASK_TABLE
    return mask if pays else None


def smallest(values: Array) -> int:
    """The place in `DTYPES` of the smallest type that holds the values bit for bit."""
    if values.dtype == np.float32:
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        return int(np.array_equal(half.astype(np.float32).view("u4"), values.view("u4")))
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    bounds = [np.iinfo(d) for d in DTYPES[2:]]
    return 2 + next(i for i, b in enumerate(bounds) if b.min <= low and high <= b.max)


def role_of(name: str, tensor: Tensor) -> str:
    """What is stored together: the last part of the name, and whether it is a vector."""
    return f"{name.rpartition('.')[2]}{min(tensor.ndim, 2)}"


def is_channels_last(tensor: Tensor) -> bool:
    """Whether a tensor lies in memory channels last."""
    if tensor.ndim != 4:
        return False
    like = torch.empty(tensor.shape, device="meta")
    last = like.to(memory_format=torch.channels_last)
    return tensor.stride() == last.stride() != like.stride()


@dataclass(frozen=True)
class _Entry:
    """How one tensor is stored, as read from the index."""

    channels_last: bool
    dtype: int
    sparse: bool = False
    grid: tuple[int, int, tuple[int, ...], bool] | None = None  # low, codes, scale's shape, zeros


def _read_entry(index: Iterator[int], like: Tensor) -> _Entry:
    layout, kind = next_varint(index), next_varint(index)
    if layout > int(like.ndim == 4) or kind > GRID:
        raise ValueError("the index names an unknown way of storing")
    floating = like.dtype == torch.float32
    if kind == GRID:
        low, codes, full, has_zero = (
            zigzag_decode(next_varint(index)),
            next_varint(index),
            next_varint(index),
            next_varint(index),
        )
        fits = 1 <= codes <= MAX_CODES and full < 1 << like.ndim and has_zero < 2
        if not (fits and floating and abs(low) < 1 << 14):
            raise ValueError("the index holds a grid out of range")
        shape = tuple(n if full >> d & 1 else 1 for d, n in enumerate(like.shape))
        return _Entry(bool(layout), 0, grid=(low, codes, shape, bool(has_zero)))
    dtype = next_varint(index) if kind == SPARSE else kind
    if dtype >= len(DTYPES) or (dtype < 2) != floating or (kind == SPARSE and not floating):
        raise ValueError("the index names a type that does not fit the architecture")
    return _Entry(bool(layout), dtype, sparse=kind == SPARSE)


def read_plan(index: Iterator[int], state: Mapping[str, Tensor]) -> list[_Entry]:
    """How every tensor of the architecture's `state` is stored (ValueError: not what we write)."""
    return [_read_entry(index, like) for like in state.values()]


def assemble(
    plan: list[_Entry], decoder: Decoder, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state dict, on the CPU. `state` gives names, shapes and types; its values are not read.

    Raises:
        ValueError: the data is not what `dissect` gives.
    """
    arrays, wanted = _take_arrays(plan, decoder, state)
    pools: dict[tuple[str, int], Iterator[Array]] = {}
    for (role, dtype), sizes in wanted.items():
        width = DTYPES[dtype].itemsize
        planes = [decoder.take(sum(sizes), 256) for _ in range(width)]
        joined = np.stack(planes, axis=1).reshape(-1).view(DTYPES[dtype])
        pools[role, dtype] = iter(np.split(joined, np.cumsum(sizes)[:-1]))
    decoder.finish()
    return {
        name: lay_out(_restore(name, entry, array, like, pools), entry.channels_last)
        for (name, like), entry, array in zip(state.items(), plan, arrays, strict=True)
    }


def _take_arrays(
    plan: list[_Entry], decoder: Decoder, state: Mapping[str, Tensor]
) -> tuple[list[NDArray[np.uint8] | None], dict[tuple[str, int], list[int]]]:
    """Codes and masks, and how many numbers every pool must hold for which tensor."""
    arrays: list[NDArray[np.uint8] | None] = []
    wanted: dict[tuple[str, int], list[int]] = {}
    for (name, like), entry in zip(state.items(), plan, strict=True):
        if entry.grid is not None:
            _, codes, shape, has_zero = entry.grid
            arrays.append(decoder.take(like.numel(), codes))
            size = int(np.prod(shape, dtype=np.int64))
            wanted.setdefault(("scale", 0), []).append(size)
            if has_zero:
                wanted.setdefault(("zero_point", _INT16), []).append(size)
            continue
        mask = decoder.take(like.numel(), 2) if entry.sparse else None
        size = like.numel() if mask is None else int(np.count_nonzero(mask))
        arrays.append(mask)
        wanted.setdefault((role_of(name, like), entry.dtype), []).append(size)
    return arrays, wanted


def _restore(
    name: str,
    entry: _Entry,
    array: NDArray[np.uint8] | None,
    like: Tensor,
    pools: Mapping[tuple[str, int], Iterator[Array]],
) -> Tensor:
    if entry.grid is not None and array is not None:
        low, codes, shape, has_zero = entry.grid
        scale = torch.from_numpy(next(pools["scale", 0]).copy()).reshape(shape)
        zero = torch.zeros(shape, dtype=torch.int16)
        if has_zero:
            zero = torch.from_numpy(next(pools["zero_point", _INT16]).copy()).reshape(shape)
        grid = QuantizationGrid(scale, zero, low, low + codes - 1)
        return grid.decode(torch.from_numpy(array.astype(np.int16)).reshape(like.shape) + low)
    numbers = next(pools[role_of(name, like), entry.dtype])
    if array is not None:
        full = np.zeros(like.numel(), numbers.dtype)
        full[array.view(bool)] = numbers
        numbers = full
    return as_tensor(numbers, like)


def as_tensor(numbers: Array, like: Tensor) -> Tensor:
    """Numbers in the shape and type of a tensor."""
    if numbers.dtype == np.float16:  # torch would not keep the bits of what is not a number
        numbers = numbers.astype(np.float32)
    return torch.from_numpy(numbers.copy()).to(like.dtype).reshape(like.shape)


def lay_out(tensor: Tensor, channels_last: bool) -> Tensor:
    """The tensor in its layout in memory."""
    if not channels_last:
        return tensor
    return torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)
