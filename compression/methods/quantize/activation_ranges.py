"""Ranges for activations, from a histogram of a layer's inputs on calibration images.

An observer is a pure function of a histogram and a number of bits; it gives both ends of the range,
float32 [g]. Codes are unsigned, 0 to
2**bits - 1, with zero on the grid: after a ReLU, all of them are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from compression.methods.quantize.weight_ranges import grid_from_range

# A channel has too few values for more bins, and there are many channels.
BINS, CHANNEL_BINS = 2048, 512
_PERCENTILE = 0.999
# Shares of the full range tried by `mse` (both ends at once, then each alone) and by `kl`.
_SHRINK = torch.linspace(0.98, 0.04, 48)
_FINE = (0.9, 0.94, 0.97, 0.99, 1.01, 1.03, 1.06, 1.1)
_CANDIDATES = 64
_SMOOTHING = 1e-4

Range = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Histogram:
    """Values of g groups (a tensor, or its channels), each in equal bins.

    `counts` float64 [g, bins] does not count exact zeros, which no grid changes; `zeros` [g] does.
    `least` and `most`, float32 [g], are the ends of the bins and include zero.
    """

    counts: Tensor
    zeros: Tensor
    least: Tensor
    most: Tensor

    @property
    def bins(self) -> int:
        """Number of bins."""
        return self.counts.shape[1]

    @property
    def width(self) -> Tensor:
        """Width of a bin, float64 [g, 1]."""
        return ((self.most.double() - self.least.double()) / self.bins).unsqueeze(1)

    @property
    def centres(self) -> Tensor:
        """Middle of every bin, float64 [g, bins]."""
        at = torch.arange(self.bins, device=self.counts.device) + 0.5
        return self.least.double().unsqueeze(1) + at * self.width


def minmax(histogram: Histogram, bits: int) -> Range:
    """The whole range of the values."""
    return histogram.least, histogram.most


def percentile(histogram: Histogram, bits: int) -> Range:
    """Without the outermost 0.1 %: half of it at either end, all of it above if none is negative.

    To the edge of a bin (Wu et al., Integer quantization for deep learning inference, 2020).
    """
    width, least = histogram.width, histogram.least.double()
    home = (-least.unsqueeze(1) / width.clamp(min=1e-300)).long().clamp(0, histogram.bins - 1)
    below = histogram.counts.scatter_add(1, home, histogram.zeros.unsqueeze(1)).cumsum(1)
    total = below[:, -1:]
    one_sided = (histogram.least >= 0) | (histogram.most <= 0)
    tail = torch.where(one_sided, 1 - _PERCENTILE, (1 - _PERCENTILE) / 2).unsqueeze(1) * total
    first = (below <= tail).sum(1)
    last = (total - below > tail).sum(1)
    step = width.squeeze(1)
    low = torch.where(histogram.least >= 0, 0.0, least + first * step)
    high = torch.where(histogram.most <= 0, 0.0, least + (last + 1) * step)
    return _within(histogram, low, high)


def mse(histogram: Histogram, bits: int) -> Range:
    """The range with the least squared error (as in Banner et al., 2019).

    Both ends are drawn in together, then each alone around the best; the full range is tried
    first, so the result is never worse.
    """
    low, high = histogram.least, histogram.most
    error = _error(histogram, low, high, bits)

    def attempt(tried_low: Tensor, tried_high: Tensor) -> None:
        nonlocal low, high, error
        tried_low, tried_high = _within(histogram, tried_low, tried_high)
        tried = _error(histogram, tried_low, tried_high, bits)
        better = tried < error
        error = torch.where(better, tried, error)
        low, high = torch.where(better, tried_low, low), torch.where(better, tried_high, high)

    for factor in _SHRINK.tolist():
        attempt(histogram.least * factor, histogram.most * factor)
    for factor in _FINE * 2:
        attempt(low * factor, high)
        attempt(low, high * factor)
    return low, high


def kl(histogram: Histogram, bits: int) -> Range:
    """The clipping at equal magnitudes whose histogram loses least information when quantized.

    Entropy calibration: Migacz, 8-bit inference with TensorRT, 2017.
    """
    ends = torch.maximum(histogram.most, -histogram.least)
    start = 2**bits / histogram.bins
    best, best_clip = torch.full_like(ends, torch.inf, dtype=torch.float64), ends
    for share in torch.linspace(1.0, start, _CANDIDATES).tolist():
        clip = ends * share
        divergence = _divergence(histogram, clip, 2**bits)
        better = divergence < best
        best = torch.where(better, divergence, best)
        best_clip = torch.where(better, clip, best_clip)
    return _within(histogram, -best_clip, best_clip)


ACTIVATION_CLIPPINGS: dict[str, Callable[[Histogram, int], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "mse": mse,
    "kl": kl,
}


def _within(histogram: Histogram, low: Tensor, high: Tensor) -> Range:
    # By the far side of zero, so that the range never leaves the values' own and always has zero.
    low = torch.maximum(low.float(), histogram.least).clamp(max=0.0)
    return low, torch.minimum(high.float(), histogram.most).clamp(min=0.0)


def _error(histogram: Histogram, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Summed squared rounding error of the values in each group, float64 [g]."""
    grid = grid_from_range(low.unsqueeze(1), high.unsqueeze(1), bits, symmetric=False)
    zero, scale, values = grid.zero_point.double(), grid.scale.double(), histogram.centres
    codes = (values / scale).round_().add_(zero).clamp_(grid.low, grid.high).sub_(zero)
    return codes.mul_(scale).sub_(values).square_().mul_(histogram.counts).sum(1)


def _divergence(histogram: Histogram, clip: Tensor, levels: int) -> Tensor:
    """KL divergence of each group's clipped histogram from its `levels`-valued one, [g]."""
    low, high = _within(histogram, -clip, clip)
    width = histogram.width.squeeze(1).clamp(min=1e-300)
    start = ((low.double() - histogram.least) / width).round().long().unsqueeze(1)
    stop = ((high.double() - histogram.least) / width).round().long().unsqueeze(1)
    stop = torch.maximum(stop, start + 1).clamp(max=histogram.bins)
    at = torch.arange(histogram.bins, device=clip.device)
    inside = (at >= start) & (at < stop)
    counts = histogram.counts * inside
    # what is cut off piles up at the ends
    clipped = counts.clone()
    clipped.scatter_add_(
        1, start.clamp(max=histogram.bins - 1), (histogram.counts * (at < start)).sum(1, True)
    )
    clipped.scatter_add_(1, stop - 1, (histogram.counts * (at >= stop)).sum(1, True))
    level = ((at - start) * levels // (stop - start)).clamp(0, levels - 1)
    level = torch.where(inside, level, 0)
    present = (counts > 0).double()
    sums = counts.new_zeros(len(counts), levels).scatter_add_(1, level, counts)
    bins = counts.new_zeros(len(counts), levels).scatter_add_(1, level, present)
    spread = present * (sums / bins.clamp(min=1)).gather(1, level)
    p, q = _smooth(clipped, inside), _smooth(spread, inside)
    return torch.where(inside, p * (p / q).log(), 0.0).sum(1)


def _smooth(counts: Tensor, inside: Tensor) -> Tensor:
    """Frequencies in which no bin is empty, so that divergences are finite."""
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    share = torch.where(inside, share.clamp(min=_SMOOTHING / counts.shape[1]), 1.0)
    return share / torch.where(inside, share, 0.0).sum(1, keepdim=True)
