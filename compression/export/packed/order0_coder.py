"""Order-0 entropy coding of many arrays of small symbols: asymmetric numeral systems (Duda, 2013)
by `constriction`, with one table of frequencies per array, or one shared by several.

A table holds the rounded square roots of the counts. Square roots make the rounding cost the same
for rare and frequent symbols (a quarter of a bit each), and their differences are small numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Counts = NDArray[np.int64]
# How an array is stored: as it is, with the table of its alphabet, or with one of its own. Every
# number of the format stays what it is for good.
_RAW, _SHARED, _OWN = 0, 1, 2
_LARGEST_ROOT = 1 << 20
_ROUNDS = 2


@dataclass(frozen=True)
class Symbols:
    """Values from 0 to `alphabet` - 1; the alphabet has at most 256 symbols."""

    values: Bytes
    alphabet: int


@dataclass(frozen=True)
class Coded:
    """Arrays as stored: whole numbers that say how, 32-bit words of the coder, and raw bytes."""

    index: list[int]
    words: bytes
    raw: bytes


def entropy_bytes(symbols: Symbols) -> float:
    """Order-0 entropy of an array: the least any coder without context needs for it, in bytes."""
    count = _count(symbols)
    return _bits(count, count) / 8


def encode(arrays: Sequence[Symbols], before: Callable[[Any], None] | None = None) -> Coded:
    """Store arrays in order. Empty arrays take nothing.

    `before` puts on the coder what is decoded before all of them.
    """
    arrays = [a for a in arrays if len(a.values)]
    counts = [_count(a) for a in arrays]
    modes, pools = _choose(counts)
    index: list[int] = []
    raw: list[bytes] = []
    coded: list[tuple[Symbols, Any]] = []
    models: dict[int, Any] = {}
    for array, count, mode in zip(arrays, counts, modes, strict=True):
        index.append(mode)
        if mode == _RAW:
            raw.append(array.values.tobytes())
        elif mode == _OWN:
            index += _differences(_roots(count))
            coded.append((array, _model(_roots(count))))
        else:
            if array.alphabet not in models:
                roots = _roots(pools[array.alphabet])
                index += _differences(roots)
                models[array.alphabet] = _model(roots)
            coded.append((array, models[array.alphabet]))
    coder = constriction.stream.stack.AnsCoder()
    for array, model in reversed(coded):  # a stack: what is decoded first goes on last
        coder.encode_reverse(array.values.astype(np.int32), model)
    if before:
        before(coder)
    return Coded(index, coder.get_compressed().astype("<u4").tobytes(), b"".join(raw))


class Decoder:
    """Gives arrays back in the order in which they were stored.

    Every method raises ValueError when the data is not what `encode` writes.
    """

    def __init__(self, index: Iterator[int], words: bytes, raw: bytes) -> None:
        if len(words) % 4 or (words and not any(words[-4:])):
            raise ValueError("the coded part has a wrong length")
        self._index, self._raw, self._at = index, raw, 0
        stored = np.frombuffer(words, "<u4").astype(np.uint32)
        self.coder = constriction.stream.stack.AnsCoder(stored)
        self._models: dict[int, Any] = {}

    def take(self, size: int, alphabet: int) -> Bytes:
        """The next array."""
        if size == 0:
            return np.empty(0, np.uint8)
        mode = next_varint(self._index)
        if mode == _RAW and alphabet == 256:
            return self._take_raw(size)
        if mode == _OWN:
            model = _model(self._read_roots(alphabet))
        elif mode == _SHARED:
            if alphabet not in self._models:
                self._models[alphabet] = _model(self._read_roots(alphabet))
            model = self._models[alphabet]
        else:
            raise ValueError("the index names an unknown way of storing")
        decoded: Bytes = self.coder.decode(model, size).astype(np.uint8)
        return decoded

    def finish(self) -> None:
        """Everything must have been used up, to the last bit."""
        done = self.coder.is_empty() and self._at == len(self._raw)
        if not done or next(self._index, None) is not None:
            raise ValueError("the coded part does not end where it should")

    def _take_raw(self, size: int) -> Bytes:
        if self._at + size > len(self._raw):
            raise ValueError("the raw part is too short")
        values = np.frombuffer(self._raw, np.uint8, size, self._at)
        self._at += size
        return values

    def _read_roots(self, alphabet: int) -> Counts:
        steps = [zigzag_decode(next_varint(self._index)) for _ in range(alphabet)]
        if max(map(abs, steps)) > _LARGEST_ROOT:
            raise ValueError("a table of frequencies is out of range")
        roots = np.cumsum(np.array(steps, np.int64))
        if roots.min() < 0 or roots.max() > _LARGEST_ROOT or not roots.any():
            raise ValueError("a table of frequencies is out of range")
        return roots


def write_numbers(numbers: Sequence[int]) -> bytes:
    """Numbers from 0 up, seven bits to a byte, least first (LEB128)."""
    out = bytearray()
    for number in numbers:
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        out.append(number)
    return bytes(out)


def read_numbers(data: bytes) -> Iterator[int]:
    """Undo `write_numbers`; numbers above 63 bits raise ValueError."""
    number = shift = 0
    for byte in data:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0
        elif shift > 56:
            raise ValueError("the index holds a number out of range")


def next_varint(numbers: Iterator[int]) -> int:
    """The next number; ValueError when there is none."""
    number = next(numbers, None)
    if number is None:
        raise ValueError("the index is too short")
    return number


def zigzag_encode(number: int) -> int:
    """Whole numbers to numbers from 0 up: 0, -1, 1, -2, ... become 0, 1, 2, 3, ..."""
    return 2 * number if number >= 0 else -2 * number - 1


def zigzag_decode(number: int) -> int:
    """Undo `zigzag_encode`."""
    return -(number + 1) // 2 if number & 1 else number // 2


def _count(symbols: Symbols) -> Counts:
    return np.bincount(symbols.values, minlength=symbols.alphabet).astype(np.int64)


def _bits(count: Counts, model: Counts) -> float:
    """Bits for symbols with these counts, by a model with those counts."""
    used = count > 0
    share = model[used] / model.sum()
    return abs(float((count[used] * np.log2(share)).sum()))


def _choose(counts: Sequence[Counts]) -> tuple[list[int], dict[int, Counts]]:
    """For every array the way of storing that takes least, and the shared tables by alphabet."""
    modes = [_SHARED] * len(counts)
    for _ in range(_ROUNDS):
        pools = _pool(counts, modes)
        modes = [_best(count, pools.get(len(count))) for count in counts]
    return modes, _pool(counts, modes)


def _pool(counts: Sequence[Counts], modes: Sequence[int]) -> dict[int, Counts]:
    pools: dict[int, Counts] = {}
    for count, mode in zip(counts, modes, strict=True):
        if mode == _SHARED:
            pools[len(count)] = pools.get(len(count), 0) + count
    return pools


def _best(count: Counts, pool: Counts | None) -> int:
    roots = _roots(count)
    table = sum(1 + 2 * math.log2(1 + abs(d)) for d in np.diff(roots, prepend=0).tolist())
    costs = {_OWN: table + _bits(count, roots**2)}
    if pool is not None and not (pool[count > 0] == 0).any():
        costs[_SHARED] = _bits(count, pool)
    if len(count) == 256:
        costs[_RAW] = 8.0 * count.sum()
    return min(costs, key=lambda mode: costs[mode])


def _roots(count: Counts) -> Counts:
    return np.where(count > 0, np.maximum(np.rint(np.sqrt(count)), 1), 0).astype(np.int64)


def _differences(roots: Counts) -> list[int]:
    return [zigzag_encode(d) for d in np.diff(roots, prepend=0).tolist()]


def _model(roots: Counts) -> Any:
    shares = roots.astype(np.float64) ** 2
    if len(shares) == 1:  # the coder wants at least two symbols
        shares = np.append(shares, 0.0)
    return constriction.stream.model.Categorical(shares / shares.sum(), perfect=False)
