"""Weights as int8 codes with one scale per output channel, the values that they already have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compression.models.parametrize import QuantizationGrid

MOST = 127
# Two products of a uint8 and a code of at most this sum to less than 2**15.
MOST_REDUCED = 64
# Leaves room for the products in a 32-bit sum.
MOST_BIAS = 2.0**30
# Smaller steps are as good as nothing, and their product with another is nothing in float32.
_LEAST_STEP = 1e-20
# Shares of a channel's largest weight that are tried for weights that no grid holds.
_SHRINK = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.8, 0.74, 0.68, 0.6, 0.5)
_NEAR = 1e-3
_MOST_PARTS, _PROBE = 255, 8


@dataclass(frozen=True)
class Codes:
    """`scale * codes` are the weights: int8 [channels, ...] and float32 [channels].

    `rounded` says why the codes are not those of the layer's grid; "" where they are.
    """

    codes: NDArray[np.int8]
    scale: NDArray[np.float32]
    rounded: str = ""


def weight_codes(weight: Tensor, grid: QuantizationGrid | None, reduced: bool = False) -> Codes:
    """Codes of a weight [channels, ...]: those of its grid, or of the grid on which its values are
    seen to lie; else rounded to 8 bits per channel with the least squared error.

    Affine codes are taken from their zero point, for the engine has one zero point in all; where
    that leaves more than 8 bits, and where `reduced` wants at most 7, channels are rounded again.
    """
    wide = _of_grid(weight, grid) if grid else _seen(weight) or _nearest(weight)
    return _within(wide, MOST_REDUCED if reduced else MOST)


_Wide = tuple[Tensor, Tensor, str]


def _of_grid(weight: Tensor, grid: QuantizationGrid) -> _Wide:
    codes = grid.encode(weight).sub_(grid.zero_point.to(torch.int16))
    return codes, grid.scale.float().flatten().expand(len(weight)), ""


def _seen(weight: Tensor) -> _Wide | None:
    """Codes of weights of which each is a multiple of its channel's scale, at most 255 of it."""
    rows = weight.flatten(1)
    # Most weights that lie on no grid are recognised by a few.
    filled = rows.any(1).nonzero().flatten()[:_PROBE]
    if not bool((_steps(rows[filled, : 8 * _PROBE]) > 0).all()):
        return None
    scale = _steps(rows)
    if not bool((scale > 0).all()):
        return None
    codes = rows.div(scale.unsqueeze(1)).round_().to(torch.int16)
    return codes.view_as(weight), scale, ""


def _steps(rows: Tensor) -> Tensor:
    """The largest step of which all weights of a row are multiples; 0 where there is none."""
    sizes = rows.abs()
    most = sizes.amax(1)
    least = torch.where(sizes > 0, sizes, torch.inf).amin(1)
    steps = torch.where(most > 0, 0.0, 1.0)
    # The smallest weight is the step, or a multiple of it where small codes are not used.
    for parts in range(1, _MOST_PARTS):
        left = ((steps == 0) & (most / least * parts < _MOST_PARTS + 0.5)).nonzero().flatten()
        if not len(left):
            break
        largest = most[left]
        # known best from the largest weight
        tried = largest / (largest / least[left] * parts).round()
        codes = rows[left] / tried.unsqueeze(1)
        far = codes.sub(codes.round()).abs_().amax(1)
        steps[left] = torch.where(far < _NEAR, tried, 0.0)
    return steps


def _nearest(weight: Tensor) -> _Wide:
    """Rounded to 8 bits; the range with the least squared error (as in Banner et al., 2019)."""
    rows = weight.flatten(1)
    most = rows.abs().amax(1, keepdim=True).clamp(min=1e-30)
    best, error = most / MOST, torch.full_like(most, torch.inf)
    for factor in _SHRINK:
        scale = most * (factor / MOST)
        codes = (rows / scale).round_().clamp_(-MOST, MOST)
        tried = codes.mul_(scale).sub_(rows).square_().sum(1, keepdim=True)
        best, error = torch.where(tried < error, scale, best), torch.minimum(tried, error)
    codes = (rows / best).round_().clamp_(-MOST, MOST).to(torch.int16)
    why = "unquantized weights were rounded to 8 bits"
    return codes.view_as(weight), best.flatten(), why


def _within(wide: _Wide, most: int) -> Codes:
    codes, scale, why = wide
    rows = codes.flatten(1)
    # -128 is as good a code as 127, but not where 7 bits are wanted
    low = -MOST - 1 if most == MOST else -most
    over = (rows.amax(1) > most) | (rows.amin(1) < low)
    if bool(over.any()):
        factor = torch.where(over, rows.abs().amax(1).float() / most, 1.0)
        shape = [-1, *[1] * (codes.ndim - 1)]
        codes = (codes.float() / factor.view(shape)).round().clamp(low, most)
        scale = scale * factor
        bits = 8 if most == MOST else 7
        why = why or f"{int(over.sum())} channels were rounded again to {bits} bits with a sign"
    return Codes(codes.to(torch.int8).numpy(), scale.numpy().astype(np.float32), why)


def multiplied(
    weight: Codes, factor: NDArray[np.float64] | None
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Codes and steps of weights times a factor per channel: its sign turns the codes.

    Where a negative factor meets the code -128, the weight is one step off.
    """
    steps = weight.scale.astype(np.float64)
    if factor is None:
        return weight.codes, steps
    steps = steps * np.abs(factor)
    nothing = steps < _LEAST_STEP
    sign = np.where(nothing, 0, np.sign(factor)).astype(np.int16)
    shaped = sign.reshape(-1, *[1] * (weight.codes.ndim - 1))
    # -128 has no opposite; one step off for such a weight is less than half a step off for each of
    # its channel's, which is what rounding them again would cost
    codes = np.clip(weight.codes * shaped, -MOST - 1, MOST).astype(np.int8)
    return codes, np.where(nothing, 1.0, steps)


def make_room(
    codes: NDArray[np.int8], steps: NDArray[np.float64], bias: NDArray[np.float64], unit: float
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Larger steps where a bias would not fit 32 bits, as where a channel's weights are nothing.

    `unit` is the step of what the weights are multiplied with.
    """
    least = np.abs(bias) / (unit * MOST_BIAS)
    tight = steps < least
    if not tight.any():
        return codes, steps
    factor = np.where(tight, steps / np.maximum(least, 1e-300), 1.0)
    shaped = factor.reshape(-1, *[1] * (codes.ndim - 1))
    return np.rint(codes * shaped).astype(np.int8), np.where(tight, least, steps)
