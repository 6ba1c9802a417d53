"""Numbers as arrays of small symbols, with the parts that repeat apart from those that do not.

A floating-point number is its exponent, counted from the middle one of its tensor, its sign, the
first seven bits of its fraction, and what is left of that. A whole number is its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compression.export.packed.order0_coder import Bytes, Symbols

Array = NDArray[np.generic]
_MIDDLE = 128


class _Float(NamedTuple):
    """Bits of a floating-point number: all, and those of its fraction."""

    bits: int
    fraction: int


_FLOATS = {"<f4": _Float(32, 23), "<f2": _Float(16, 10)}


def split(parts: Sequence[Array], dtype: np.dtype) -> tuple[list[int], list[Symbols]]:
    """Tensors of one type: the middle exponent of each (none of whole numbers), and arrays."""
    joined = np.concatenate(parts)
    if dtype.str not in _FLOATS:
        lines = joined.view(np.uint8).reshape(len(joined), -1)
        return [], [Symbols(np.ascontiguousarray(line), 256) for line in lines.T]
    kind = _FLOATS[dtype.str]
    number = joined.view(f"<u{kind.bits // 8}").astype(np.uint32)
    exponent = _exponent(number, kind)
    ends = np.cumsum([len(p) for p in parts])[:-1]
    middles = [_median(e) for e in np.split(exponent, ends)]
    each = np.repeat(np.array(middles, np.uint32), [len(p) for p in parts])
    planes = [
        (exponent - each + _MIDDLE, 256),
        (number >> (kind.bits - 1), 2),
        (number >> (kind.fraction - 7), 128),
        *((number >> shift, alphabet) for shift, alphabet in _rest(kind)),
    ]
    return middles, [
        Symbols((plane & (alphabet - 1)).astype(np.uint8), alphabet) for plane, alphabet in planes
    ]


def join(
    sizes: Sequence[int],
    dtype: np.dtype,
    middle: Callable[[], int],
    take: Callable[[int, int], Bytes],
) -> list[Array]:
    """Undo `split`: `middle` gives the next tensor's exponent, `take` the next array, by length
    and alphabet."""
    total = sum(sizes)
    ends = np.cumsum(sizes)[:-1]
    if dtype.str not in _FLOATS:
        planes = [take(total, 256) for _ in range(dtype.itemsize)]
        return np.split(np.stack(planes, axis=1).reshape(-1).view(dtype), ends)
    kind = _FLOATS[dtype.str]
    each = np.repeat(np.array([middle() for _ in sizes], np.uint32), sizes)
    exponent = (take(total, 256).astype(np.uint32) + each - _MIDDLE) & _all_ones(kind)
    number = exponent << kind.fraction
    number |= take(total, 2).astype(np.uint32) << (kind.bits - 1)
    number |= take(total, 128).astype(np.uint32) << (kind.fraction - 7)
    for shift, alphabet in _rest(kind):
        number |= take(total, alphabet).astype(np.uint32) << shift
    return np.split(number.astype(f"<u{kind.bits // 8}").view(dtype), ends)


def _exponent(number: NDArray[np.uint32], kind: _Float) -> NDArray[np.uint32]:
    return ((number >> kind.fraction) & _all_ones(kind)).astype(np.uint32)


def _median(exponents: NDArray[np.uint32]) -> int:
    if not len(exponents):
        return 0
    up_to = np.cumsum(np.bincount(exponents))
    return int(np.searchsorted(up_to, len(exponents) // 2, side="right"))


def _all_ones(kind: _Float) -> int:
    """The largest exponent."""
    return (1 << (kind.bits - 1 - kind.fraction)) - 1


def _rest(kind: _Float) -> list[tuple[int, int]]:
    """What follows the first seven bits of the fraction: shift and alphabet of every piece."""
    left, pieces = kind.fraction - 7, []
    while left:
        bits = min(left, 8)
        left -= bits
        pieces.append((left, 1 << bits))
    return pieces
