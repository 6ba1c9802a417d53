"""What a search chose by is lucky there: a reported interval holds its share on other images.

Simulated: each candidate has a true rate of answers lost and won, and counts of both on two halves
of the images. A search sees one half, and what it chose is reported on the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest

from compression.methods.calibration.bisection import decide_from_interval, largest_accepted
from compression.runs.statistics import Interval, paired_difference

IMAGES, SEARCHES, SHARE = 2_500, 200, 0.95


class Candidates:
    """Models by amount: true change of accuracy, and how each half measures it."""

    def __init__(self, lost: Callable[[float], float], gained: float, seed: int) -> None:
        self.lost, self.gained = lost, gained
        self.random = np.random.default_rng(seed)
        self.measured: dict[float, tuple[Interval, Interval]] = {}

    def change(self, amount: float) -> float:
        return self.gained - self.lost(amount)

    def halves(self, amount: float) -> tuple[Interval, Interval]:
        """The difference on the half that is searched, and on the other one."""
        if amount not in self.measured:
            rates = [self.gained, self.lost(amount), 1 - self.gained - self.lost(amount)]
            search, report = (self.random.multinomial(IMAGES, rates)[:2] for _ in range(2))
            self.measured[amount] = tuple(  # type: ignore[assignment]
                paired_difference(int(won), int(lost), IMAGES) for won, lost in (search, report)
            )
        return self.measured[amount]


def bisection(candidates: Candidates) -> float:
    """The largest amount that loses at most a point, as `largest_amount_within_drop` decides."""

    def accept(amount: float) -> bool:
        return bool(decide_from_interval(candidates.halves(amount)[0], 0.01, True))

    amount = largest_accepted(accept, 0.0, 1.0, 0.0025)
    assert amount is not None
    return amount


def best_of_twelve(candidates: Candidates) -> float:
    """The most accurate of a grid, as a sweep of temperatures chooses."""
    return max((i / 12 for i in range(12)), key=lambda a: candidates.halves(a)[0].value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "lost"),
    [(bisection, lambda a: 0.012 + 0.006 * a), (best_of_twelve, lambda a: 0.02)],
)
def test_a_reported_interval_covers_the_truth_as_often_as_it_says(
    search: Callable[[Candidates], float], lost: Callable[[float], float]
) -> None:
    covered, flattered = np.zeros(2, dtype=int), np.zeros(2, dtype=int)
    for seed in range(SEARCHES):
        candidates = Candidates(lost, 0.005, seed)
        amount = search(candidates)
        truth = candidates.change(amount)
        for half, interval in enumerate(candidates.halves(amount)):
            covered[half] += interval.low <= truth <= interval.high
            flattered[half] += interval.value > truth
    assert _chance(covered[1], SHARE) > 0.05
    assert _chance(flattered[1], 0.5) > 0.05
    # and this is why the searched half is not what is reported
    assert flattered[0] > 0.9 * SEARCHES
    if search is best_of_twelve:
        assert covered[0] < 0.8 * SEARCHES and _chance(covered[0], SHARE) < 1e-6


def _chance(count: int, share: float) -> float:
    """How likely a count so far from its share, or farther, is by chance."""
    return float(binomtest(int(count), SEARCHES, share).pvalue)
