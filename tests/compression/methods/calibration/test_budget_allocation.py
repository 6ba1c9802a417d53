"""The integer program finds what trying everything finds."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compression.errors import InvalidInput
from compression.methods.calibration.budget_allocation import SPARSITIES, allocate

Table = list[list[float]]


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, Table, float]:
    costs: Table = []
    sizes: Table = []
    magnitude = draw(st.sampled_from([1e-7, 1e-3, 1.0, 1e4]))
    cost = st.floats(0, 1, allow_subnormal=False)
    for _ in range(draw(st.integers(1, 5))):
        n = draw(st.integers(1, 4))
        costs.append([magnitude * c for c in draw(st.lists(cost, min_size=n, max_size=n))])
        sizes.append(draw(st.lists(st.integers(0, 1000), min_size=n, max_size=n)))
    least = sum(map(min, sizes))
    return costs, sizes, draw(st.integers(int(least), int(least) + 2000))


def _best(costs: Table, sizes: Table, budget: float) -> float:
    return min(
        math.fsum(costs[i][o] for i, o in enumerate(pick))
        for pick in itertools.product(*(range(len(c)) for c in costs))
        if math.fsum(sizes[i][o] for i, o in enumerate(pick)) <= budget
    )


@pytest.mark.slow
@settings(max_examples=150)
@given(tables())
@example(([[0.0, 1e-307]], [[1, 0]], 0))  # whose scale would be infinite
def test_as_good_as_the_best_of_all_choices(table: tuple[Table, Table, float]) -> None:
    costs, sizes, budget = table
    chosen = allocate(costs, sizes, budget)
    assert sum(sizes[i][o] for i, o in enumerate(chosen)) <= budget
    largest = max(map(max, costs))
    cost = math.fsum(costs[i][o] for i, o in enumerate(chosen))
    assert cost == pytest.approx(_best(costs, sizes, budget), abs=1e-8 * largest)


def test_a_budget_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"budget: got 9\.0, allowed: at least 10"):
        allocate([[1, 0], [1, 0]], [[4, 8], [6, 12]], 9.0)
    assert allocate([[1, 0], [1, 0]], [[4, 8], [6, 12]], 10.0) == [0, 0]
    assert allocate([[1, 0], [1, 0]], [[4, 8], [6, 12]], 20.0) == [1, 1]


def test_an_option_of_infinite_cost_is_never_taken() -> None:
    assert allocate([[math.inf, 1.0], [math.nan, 2.0, 1.0]], [[1, 5], [1, 2, 3]], 8) == [1, 2]
    with pytest.raises(InvalidInput, match="layer 1"):
        allocate([[1.0], [math.inf]], [[1], [1]], 8)


@pytest.mark.slow
@pytest.mark.parametrize("options", [SPARSITIES, tuple(range(2, 9))])
def test_a_large_network_is_quick_and_within_the_bound(options: tuple[float, ...]) -> None:
    """160 layers of up to a million weights; the Lagrangian bound says how far from the best."""
    rng = np.random.default_rng(5)
    counts = rng.integers(500, 1_000_000, 160)
    harm = 10 ** rng.uniform(-4, 0, 160)
    if isinstance(options[0], float):
        sizes = [[n - round(s * n) for s in options] for n in counts.tolist()]
        costs = [[h * s**4 / (1.01 - s) for s in options] for h in harm.tolist()]
    else:
        sizes = [[n * b for b in options] for n in counts.tolist()]
        costs = [[h * 4.0**-b for b in options] for h in harm.tolist()]
    budget = 0.3 * sum(map(max, sizes))
    started = time.process_time()
    chosen = allocate(costs, sizes, budget)
    assert time.process_time() - started < 30
    assert sum(s[o] for s, o in zip(sizes, chosen, strict=True)) <= budget
    cost = sum(c[o] for c, o in zip(costs, chosen, strict=True))
    bound = max(
        sum(min(c + price * s for c, s in zip(cs, ss, strict=True))
            for cs, ss in zip(costs, sizes, strict=True)) - price * budget
        for price in np.logspace(-16, 0, 400)
    )  # fmt: skip
    assert bound <= cost * (1 + 1e-9) and cost <= 1.02 * bound
