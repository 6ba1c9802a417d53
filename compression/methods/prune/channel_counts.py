"""How many channels of each layer go. Pure functions of scores.

A layer's channels come in units of `size` channels that must go together (one of each group of a
grouped convolution). The least important go, so many that a multiple of `round_to` stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor


def spare(units: int, size: int, round_to: int) -> list[int]:
    """The numbers of units that can be removed from a layer, from none up.

    What stays is a multiple of `round_to` channels, and at least `round_to`. A grouped convolution
    for which that leaves no choice keeps a multiple of a smaller number in each of its groups.
    """
    step = round_to // math.gcd(round_to, size)
    while size > 1 and step > 1 and units < 2 * step:
        step //= 2
    return [0, *(units - kept for kept in range((units - 1) // step * step, 0, -step))]


def removed_globally(
    scores: Sequence[Tensor], sizes: Sequence[int], sparsity: float, round_to: int
) -> list[int]:
    """Units to remove from each layer: the least of the whole network, at least `sparsity` of all
    channels if the layers can spare as many, and by less than one block of a layer more.

    A layer's block is what goes from one number that can be removed to the next; it is worth the
    mean of its units' scores.
    """
    blocks = []
    for layer, (score, size) in enumerate(zip(scores, sizes, strict=True)):
        ranked = score.double().sort().values.cumsum(0).tolist()
        steps = spare(len(ranked), size, round_to)
        for low, high in pairwise(steps):
            total = ranked[high - 1] - (ranked[low - 1] if low else 0.0)
            blocks.append((total / (high - low), layer, high, (high - low) * size))
    wanted = round(sparsity * sum(s.numel() * size for s, size in zip(scores, sizes, strict=True)))
    removed, done = [0] * len(scores), 0
    # Within a layer, scores only grow: its blocks come in order, but for rounding errors.
    for _, layer, high, channels in sorted(blocks):
        if done >= wanted:
            break
        removed[layer] = max(removed[layer], high)
        done += channels
    return removed


def removed_per_layer(
    scores: Sequence[Tensor], sizes: Sequence[int], sparsity: float, round_to: int
) -> list[int]:
    """Units to remove from each layer: what is nearest to `sparsity` of it, the larger if two are
    equally near."""
    return [
        _nearest(spare(score.numel(), size, round_to), sparsity * score.numel())
        for score, size in zip(scores, sizes, strict=True)
    ]


def _nearest(choices: Sequence[int], wanted: float) -> int:
    return min(choices, key=lambda n: (abs(n - wanted), -n))
