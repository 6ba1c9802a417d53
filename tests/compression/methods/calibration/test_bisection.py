"""Bisection finds the boundary, and an interval decides only when it is clear."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.methods.calibration.accuracy_search import LARGEST, RESOLUTION
from compression.methods.calibration.bisection import decide_from_interval, largest_accepted
from compression.runs.statistics import Interval, paired_difference


@given(st.integers(-1, 40), st.integers(0, 40))
def test_largest_of_a_monotone_test(last: int, steps: int) -> None:
    tried: list[float] = []

    def accept(amount: float) -> bool:
        tried.append(amount)
        return amount <= 2 + 0.25 * last + 1e-9

    found = largest_accepted(accept, 2.0, 2.0 + 0.25 * steps, 0.25)
    assert found == (None if last < 0 else 2 + 0.25 * min(last, steps))
    assert len(set(tried)) == len(tried) <= math.ceil(math.log2(steps + 2))


@given(st.sets(st.integers(0, 99)))
def test_any_test_gives_an_accepted_amount_whose_next_is_refused(good: set[int]) -> None:
    found = largest_accepted(lambda amount: round(amount * 100) in good, 0, 0.99, 0.01)
    if found is None:
        assert 0 not in good
    else:
        step = round(found * 100)
        assert step in good and (step == 99 or step + 1 not in good)


def test_amounts_have_no_digits_of_their_own() -> None:
    tried: list[float] = []
    largest_accepted(
        lambda amount: bool(tried.append(amount)) or amount < 0.7, 0, LARGEST, RESOLUTION
    )
    assert all(a == round(a, 4) for a in tried)
    with pytest.raises(ValueError, match="tolerance"):
        largest_accepted(lambda amount: True, 0, 1, 0)


@given(st.integers(1, 2000), st.data(), st.floats(0, 0.2))
def test_verdict_follows_the_interval(n: int, data: st.DataObject, allowed: float) -> None:
    gained = data.draw(st.integers(0, n))
    found = paired_difference(gained, data.draw(st.integers(0, n - gained)), n)
    early, final = (
        decide_from_interval(found, allowed, False),
        decide_from_interval(found, allowed, True),
    )
    surely = decide_from_interval(found, allowed, True, use_lower_bound=True)
    assert surely == (found.low >= -allowed - 1e-12) and surely <= final
    assert final == (found.value >= -allowed - 1e-12)
    assert early == (True if found.low >= -allowed else False if found.high < -allowed else None)
    assert early is None or early == final  # the value lies in its interval


def test_a_drop_of_just_what_is_allowed_passes() -> None:
    exact = Interval(value=(3 - 10) / 700, low=-0.03, high=0.01, n=700)
    assert decide_from_interval(exact, 0.01, True) is True
    assert decide_from_interval(exact, 0.00999, True) is False
