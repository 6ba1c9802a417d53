"""Means and variances per channel, over batches that are never held together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ChannelStatistics:
    """Of a norm's inputs x and its reference's r, per channel [c]: means, variances (divided by the
    number of values) and the covariance of x and r."""

    mean: Tensor
    variance: Tensor
    other_mean: Tensor
    other_variance: Tensor
    covariance: Tensor


def pooled_statistics(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> ChannelStatistics:
    """Statistics over all batches [n, c, ...], by those of each batch (Chan et al., 1979)."""
    counts = [x.numel() // x.shape[1] for x in ours]
    parts = [_moments(x, r) for x, r in zip(ours, theirs, strict=True)]
    mean, other_mean = (pooled_mean([p[i] for p in parts], counts) for i in (0, 1))
    inside = [pooled_mean([p[i] for p in parts], counts) for i in (2, 3, 4)]
    between = [
        pooled_mean([(p[i] - a) * (p[j] - b) for p in parts], counts)
        for i, a, j, b in (
            (0, mean, 0, mean),
            (1, other_mean, 1, other_mean),
            (0, mean, 1, other_mean),
        )
    ]
    variance, other_variance, covariance = (a + b for a, b in zip(inside, between, strict=True))
    return ChannelStatistics(mean, variance, other_mean, other_variance, covariance)


def _moments(x: Tensor, r: Tensor) -> tuple[Tensor, ...]:
    """Means of x and r, variances of x and r, covariance; of one batch."""
    axes = [d for d in range(x.ndim) if d != 1]
    variance, mean = torch.var_mean(x, axes, correction=0)
    other_variance, other_mean = torch.var_mean(r, axes, correction=0)
    return mean, other_mean, variance, other_variance, (x * r).mean(axes) - mean * other_mean


def pooled_variance(batches: Sequence[Tensor]) -> tuple[Tensor, Tensor, int]:
    """Mean and variance per channel [c] over all batches [n, c, ...], and the number of values."""
    parts = []
    for x in batches:
        variance, mean = torch.var_mean(x, [d for d in range(x.ndim) if d != 1], correction=0)
        parts.append((mean, variance, x.numel() // x.shape[1]))
    return *pooled_moments(parts), sum(n for *_, n in parts)


def pooled_moments(parts: Sequence[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor]:
    """Mean and variance of all values, from those of parts of so many values each."""
    counts = [n for *_, n in parts]
    mean = pooled_mean([m for m, *_ in parts], counts)
    return mean, pooled_mean([v + (m - mean).square() for m, v, _ in parts], counts)


def pooled_mean(means: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """The mean of all values, from the means of parts of so many values each."""
    if len(means) == 1:
        return means[0]
    total = sum(counts)
    return torch.stack([m * (n / total) for m, n in zip(means, counts, strict=True)]).sum(0)


def channel_means(outputs: Tensor, module: nn.Module) -> Tensor:
    """The mean of a layer's outputs for each output channel: [c]."""
    axis = _channel_axis(module) % outputs.ndim
    return outputs.mean([d for d in range(outputs.ndim) if d != axis])


def shaped(values: Tensor, outputs: Tensor, module: nn.Module) -> Tensor:
    """Values for each output channel [c], so that they broadcast against a layer's outputs."""
    axis = _channel_axis(module) % outputs.ndim
    return values.view([-1 if d == axis else 1 for d in range(outputs.ndim)])


def _channel_axis(module: nn.Module) -> int:
    return -1 if isinstance(module, nn.Linear) else 1
