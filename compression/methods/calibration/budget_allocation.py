"""One option for each layer within a budget: bits under a size, sparsity under a count of weights.

A multiple-choice knapsack, solved exactly as an integer program. Plain mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from compression.errors import CompressionError, InvalidInput

# Close together where a layer begins to fail.
SPARSITIES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995)
# The solver's absolute tolerance of 1e-6 is far below costs of this order.
_COSTS = 1e4
_SECONDS = 20.0


def allocate(
    costs: Sequence[Sequence[float]], sizes: Sequence[Sequence[float]], budget: float
) -> list[int]:
    """The option of each layer, such that total cost is least and total size at most `budget`.

    `costs[layer][option]` and `sizes[layer][option]` are in any unit, the same for all layers. An
    option whose cost is not finite is never taken.

    Raises:
        InvalidInput: even the smallest options exceed the budget, or a layer has no option.
        ValueError: costs and sizes are not of the same shape.
    """
    choices = [_worthwhile(c, s) for c, s in zip(costs, sizes, strict=True)]
    if not all(choices):
        layer = next(i for i, options in enumerate(choices) if not options)
        raise InvalidInput(f"costs of layer {layer}", list(costs[layer]), "one that is finite")
    # options are in the order of their sizes
    taken = [(layer, option) for layer, options in enumerate(choices) for option in options]
    smallest = math.fsum(sizes[i][options[0]] for i, options in enumerate(choices))
    slack = 1e-12 * abs(budget)
    if smallest > budget + slack:
        raise InvalidInput("budget", budget, f"at least {smallest:.10g}, with the smallest options")
    limit = budget
    for _ in range(5):
        chosen = _solve(taken, len(choices), costs, sizes, max(limit, smallest))
        excess = math.fsum(sizes[i][o] for i, o in enumerate(chosen)) - budget
        if excess <= slack:
            return chosen
        limit -= 2 * excess  # by the solver's tolerance
    return [options[0] for options in choices]


def _worthwhile(costs: Sequence[float], sizes: Sequence[float]) -> list[int]:
    """The options that no other is at least as good as in both, smallest first."""
    kept: list[int] = []
    rows = zip(sizes, costs, range(len(costs)), strict=True)
    for _, cost, option in sorted(row for row in rows if math.isfinite(row[1])):
        if not kept or cost < costs[kept[-1]]:
            kept.append(option)
    return kept


def _solve(
    taken: Sequence[tuple[int, int]],
    layers: int,
    costs: Sequence[Sequence[float]],
    sizes: Sequence[Sequence[float]],
    limit: float,
) -> list[int]:
    cost = np.array([costs[i][o] for i, o in taken])
    size = np.array([sizes[i][o] for i, o in taken])
    layer = np.array([i for i, _ in taken])
    one_each = csr_array((np.ones(len(taken)), (layer, np.arange(len(taken)))))
    # What all options of a layer share only hides their differences from the solver.
    cost = cost - np.array([cost[layer == i].min() for i in range(layers)])[layer]
    largest = cost.max()
    if largest > 0:
        # The scale of the least costs that there are would be infinite.
        cost = cost * (_COSTS / largest) if largest > 1e-300 else cost / largest * _COSTS
    solved = milp(
        cost,
        integrality=np.ones(len(taken)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(size[np.newaxis], -np.inf, limit),
        ],
        options={"mip_rel_gap": 0.0, "time_limit": _SECONDS},
    )
    if solved.x is None:
        raise CompressionError(f"no allocation within a budget of {limit:.10g}: {solved.message}")
    best = {i: max((x, o) for x, (j, o) in zip(solved.x, taken, strict=True) if j == i)
            for i in range(layers)}  # fmt: skip
    return [best[i][1] for i in range(layers)]
