"""Bisection over amounts, and when an interval decides. Plain mathematics."""

from __future__ import annotations

import math
from collections.abc import Callable

from compression.runs.statistics import Interval

# A drop of exactly what is allowed must not fail by the last bit of a division.
_ROUNDING = 1e-12


def largest_accepted(
    accept: Callable[[float], bool], low: float, high: float, tolerance: float
) -> float | None:
    """An accepted amount of `low + k * tolerance`, at most `high`, of which the next is refused.

    Returns:
        The largest of all if `accept` is monotone; None if even `low` is refused. Every amount is
        tried at most once, and about log2((high - low) / tolerance) of them are.

    Raises:
        ValueError: high is less than low, or the tolerance is not positive.
    """
    if not (high >= low and tolerance > 0):
        raise ValueError(
            f"low {low}, high {high}, tolerance {tolerance}: low <= high, 0 < tolerance"
        )
    steps = math.floor((high - low) / tolerance + 1e-9)

    def amount(step: int) -> float:
        # without the digits that only floating point puts there
        return float(f"{min(low + step * tolerance, high):.12g}")

    accepted, refused = -1, steps + 1
    while refused - accepted > 1:
        middle = (accepted + refused) // 2
        if accept(amount(middle)):
            accepted = middle
        else:
            refused = middle
    return amount(accepted) if accepted >= 0 else None


def decide_from_interval(
    difference: Interval, max_drop: float, complete: bool, use_lower_bound: bool = False
) -> bool | None:
    """Whether a difference of accuracies is a drop of at most `max_drop`; None if not yet clear.

    Until all images have been used, the whole interval must lie on one side.

    Args:
        difference: compressed minus original, as a fraction, with its interval.
        max_drop: the largest drop allowed, as a fraction of at least 0.
        complete: all images have been used: the measured difference itself decides.
        use_lower_bound: and then the worse end of its interval does.
    """
    if complete:
        return (difference.low if use_lower_bound else difference.value) >= -max_drop - _ROUNDING
    if difference.low >= -max_drop:
        return True
    return False if difference.high < -max_drop else None
