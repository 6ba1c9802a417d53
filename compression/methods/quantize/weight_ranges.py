"""Affine grids of 2 to 8 bits. Pure functions of tensors.

A grid is `scale * (code - zero_point)`, Jacob et al., 2018; zero is always on it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compression.models.parametrize import QuantizationGrid

# Fractions of the full range tried by `mse`, and the finer steps around the best of them.
_COARSE = (0.94, 0.88, 0.82, 0.76, 0.7, 0.64, 0.58, 0.52, 0.46, 0.4, 0.34, 0.28, 0.22, 0.16, 0.1)
_FINE = (-0.045, -0.03, -0.015, 0.015, 0.03, 0.045)


def grid_from_range(least: Tensor, most: Tensor, bits: int, symmetric: bool) -> QuantizationGrid:
    """The grid of `2**bits` codes (one fewer if symmetric) that covers [least, most] and zero.

    `least` and `most` broadcast against the weight. Symmetric codes run from -(2**(bits-1) - 1)
    to 2**(bits-1) - 1 with zero point 0; affine codes from 0 to 2**bits - 1.
    """
    least, most = least.clamp(max=0.0), most.clamp(min=0.0)
    if symmetric:
        high = 2 ** (bits - 1) - 1
        scale = torch.maximum(-least, most) / high
        return QuantizationGrid(
            _positive(scale), torch.zeros_like(scale, dtype=torch.int16), -high, high
        )
    high = 2**bits - 1
    scale = _positive((most - least) / high)
    zero_point = torch.round(-least / scale).clamp(0, high).to(torch.int16)
    return QuantizationGrid(scale, zero_point, 0, high)


def _positive(scale: Tensor) -> Tensor:
    # All weights zero, or so small that the division underflows: any scale gives all zeros.
    return torch.where(scale > torch.finfo(torch.float32).tiny, scale, torch.ones_like(scale))


def extremes(weight: Tensor, per_channel: bool) -> tuple[Tensor, Tensor]:
    """Smallest and largest weight, per output channel [c, 1, ...] or in all [1, 1, ...]."""
    axes = list(range(1 if per_channel else 0, weight.ndim))
    return weight.amin(axes, keepdim=True), weight.amax(axes, keepdim=True)


def minmax(weight: Tensor, bits: int, symmetric: bool, per_channel: bool) -> QuantizationGrid:
    """The grid from the smallest to the largest weight: nothing is clipped."""
    return grid_from_range(*extremes(weight, per_channel), bits, symmetric)


def mse(weight: Tensor, bits: int, symmetric: bool, per_channel: bool) -> QuantizationGrid:
    """The grid with the least squared error among clipped ranges (as in Banner et al., 2019).

    For every channel at once: ranges from the full one down to a tenth of it, then finer around
    the best. Never worse than `minmax`, whose range is the first one tried.
    """
    least, most = extremes(weight, per_channel)
    axes = list(range(1 if per_channel else 0, weight.ndim))
    best = grid_from_range(least, most, bits, symmetric)
    error = _error(weight, best, axes)
    shrink = torch.ones_like(error)

    def attempt(factor: Tensor) -> None:
        nonlocal best, error, shrink
        tried = grid_from_range(least * factor, most * factor, bits, symmetric)
        tried_error = _error(weight, tried, axes)
        better = tried_error < error
        error = torch.where(better, tried_error, error)
        shrink = torch.where(better, factor, shrink)
        scale = torch.where(better, tried.scale, best.scale)
        zero_point = torch.where(better, tried.zero_point, best.zero_point)
        best = QuantizationGrid(scale, zero_point, best.low, best.high)

    for factor in _COARSE:
        attempt(torch.full_like(error, factor))
    around = shrink
    for step in _FINE:
        attempt((around + step).clamp(max=1.0))
    return best


def _error(weight: Tensor, grid: QuantizationGrid, axes: list[int]) -> Tensor:
    return grid.snap(weight).sub_(weight).square_().sum(axes, keepdim=True)


def percentile(weight: Tensor, bits: int, symmetric: bool, per_channel: bool) -> QuantizationGrid:
    """The grid without the outermost 0.1 % of the weights: half of it, rounded up, at either end
    of at least 1,000 weights, and nothing of fewer."""
    flat = weight.flatten(1) if per_channel else weight.reshape(1, -1)
    n = flat.shape[1]
    cut = -(-n // 2000) if n >= 1000 else 0
    ranked = flat.sort(dim=1).values
    shape = [-1, *[1] * (weight.ndim - 1)]
    least, most = ranked[:, cut], ranked[:, n - 1 - cut]
    return grid_from_range(least.reshape(shape), most.reshape(shape), bits, symmetric)


CLIPPINGS = {"mse": mse, "minmax": minmax, "percentile": percentile}
