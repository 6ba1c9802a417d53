"""Frequency tables as they are before a symbol was coded: what is expected from a bin alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compression.export.packed.context_model import middle
from compression.export.packed.symbol_coder import FrequencyTables

# How finely expectations are binned, and how many symbols the first guess of a table weighs. All
# numbers here are part of the format.
FLAG_STEPS, SIZE_STEPS, SIGN_STEPS = 3, 2, 2
_FLAG_TRUST, _SIZE_TRUST, _SIGN_TRUST = 150, 12, 16
_TABLE_BITS = 5
# Of how many weights left to come the largest size may still be: classes of a size's bin.
LEFT = (2, 4, 10)
ENDINGS = len(LEFT) + 2


def flag_tables() -> FrequencyTables:
    """For flags, 0 or 1: whether a value is not 0; bins as `LayerCoder` numbers them."""
    return FrequencyTables(_flag_guess, _FLAG_TRUST)


def sign_tables() -> FrequencyTables:
    """For signs, 0 for minus and 1 for plus."""
    return FrequencyTables(_sign_guess, _SIGN_TRUST)


def size_tables(most: int) -> tuple[FrequencyTables, FrequencyTables]:
    """For the upper and the lower bits of sizes less 1, where sizes are 1 to `most`."""
    low = low_bits(most)
    return (
        FrequencyTables(_size_guess(most, low), _SIZE_TRUST),
        FrequencyTables(_detail_guess(low), _SIZE_TRUST),
    )


def low_bits(most: int) -> int:
    """Bits of a size, at most `most`, that are coded apart: short tables are learned fast."""
    return max(most.bit_length() - _TABLE_BITS, 0)


def _flag_guess(number: int) -> NDArray[np.float64]:
    """Bins of the rarer flag: of those that are not 0, or of zeros below 0."""
    flipped = number < 0
    rare = min(max(middle(~number if flipped else number, FLAG_STEPS), 1e-5), 0.9)
    return np.array([rare, 1 - rare] if flipped else [1 - rare, rare])


def _size_guess(most: int, low: int) -> Callable[[int], NDArray[np.float64]]:
    """A geometric distribution with the expected mean, and a little of every size."""

    def guess(number: int) -> NDArray[np.float64]:
        decay = _decay(number)
        share = np.cumprod(np.full(most, decay)) / decay
        whole = np.add.reduceat(share, np.arange(0, most, 1 << low))
        shares: NDArray[np.float64] = whole / np.cumsum(whole)[-1] + 0.02 / len(whole)
        return shares

    return guess


def _detail_guess(low: int) -> Callable[[int], NDArray[np.float64]]:
    return lambda number: np.cumprod(np.full(1 << low, _decay(number)))


def _decay(number: int) -> float:
    more = max(middle(number // ENDINGS, SIZE_STEPS) - 1, 0.05)
    return more / (1 + more)


def _sign_guess(number: int) -> NDArray[np.float64]:
    ratio = middle(number, SIGN_STEPS)
    return np.array([1 / (1 + ratio), ratio / (1 + ratio)])
