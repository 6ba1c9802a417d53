"""Proportions, differences and ratios with their 95 % intervals."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict


class FrozenValue(BaseModel):
    """A value that never changes and refuses unknown fields, NaN and infinity."""

    # JSON has no NaN: a figure that is not a number must be None
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(FrozenValue):
    """A proportion or a difference of proportions, as fractions, with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


class Ratio(FrozenValue):
    """Original / compressed, with its 95 % interval."""

    value: float
    low: float
    high: float


class Flips(FrozenValue):
    """Images whose prediction changed from right to wrong, and from wrong to right."""

    right_to_wrong: int
    wrong_to_right: int


_Z = 1.959963984540054


def proportion(successes: int, n: int) -> Interval:
    """A proportion with its 95 % score interval (Wilson, 1927). `n` must be positive.

    As `scipy.stats.binomtest(successes, n).proportion_ci(method="wilson")`, whose import takes
    seconds and each of whose intervals takes 0.8 ms, where this one takes 4 µs.
    """
    p, z2 = successes / n, _Z * _Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # at 0 and n the bound is exact in mathematics but not in floating point
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(value=p, low=low, high=high, n=n)


def paired_difference(gained: int, lost: int, n: int) -> Interval:
    """Difference of two proportions on the same `n` images, with its 95 % interval.

    `gained` were wrong and became right, `lost` were right and became wrong. Wald interval with
    half an observation added to each of the four cells (Agresti and Min, 2005).
    """
    size, up, down = n + 2, gained + 0.5, lost + 0.5
    centre = (up - down) / size
    half = _Z * math.sqrt((up + down) - (up - down) ** 2 / size) / size
    value = (gained - lost) / n
    return Interval(
        value=value,
        low=max(-1.0, min(value, centre - half)),
        high=min(1.0, max(value, centre + half)),
        n=n,
    )
