"""Layers with their inputs, easy and degenerate, for what solves one layer at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compression.methods.calibration.second_moments import (
    SecondMoments,
    measure_moments,
    weight_rows,
)

LAYERS: dict[str, Callable[[], nn.Linear | nn.Conv2d]] = {
    "linear": lambda: nn.Linear(12, 5),
    "plain": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=2),
    "grouped": lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4),
}


INPUTS = ("full", "rank one", "a group is zero", "all zero", "huge", "tiny")


def given_to(layer: nn.Module, kind: str, generator: torch.Generator, n: int = 6) -> Tensor:
    """Inputs of a layer, well or badly conditioned."""
    if isinstance(layer, nn.Linear):
        x = torch.randn(n * 8, 12, generator=generator)
        x = x + x[:, :1]
    else:
        x = torch.randn(n, 4, 10, 10, generator=generator)
        x = F.avg_pool2d(x + x[:, :1], 5, 1)  # as in images, neighbours are alike
    if kind == "rank one":
        x = x[:, :1].expand_as(x).clone()
    elif kind == "a group is zero":
        x[:, :2] = 0
    return x * {"all zero": 0.0, "huge": 1e4, "tiny": 1e-4}.get(kind, 1.0)


def distance(target: Tensor, weight: Tensor, moments: SecondMoments, power: Tensor) -> Tensor:
    """E|target r - weight x|² of each row [g, o], with power = E[r r']."""
    seen = moments.seen
    t, w = (v[..., seen].double() for v in (target, weight))
    cross, gram = moments.cross.double(), moments.gram.double()
    return ((t @ power.double()) * t - 2 * (t @ cross) * w + (w @ gram) * w).sum(2)


Case = tuple[Tensor, Tensor, Tensor, SecondMoments, Tensor]


def case(layer_name: str, kind: str, seed: int, apart: float) -> Case:
    """Weight, mask, the reference's weight, moments and the power of the reference's inputs."""
    g = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = LAYERS[layer_name]()
    reference = given_to(layer, kind, g)
    inputs = reference + apart * reference.abs().mean() * torch.randn(reference.shape, generator=g)
    if kind == "a group is zero":
        inputs[:, :2] = 0
    groups = int(getattr(layer, "groups", 1))
    target = weight_rows(layer.weight.detach(), groups)
    weight = target + 0.1 * torch.randn(target.shape, generator=g)
    mask = torch.rand(target.shape, generator=g) < torch.rand((), generator=g)
    moments = measure_moments(layer, [inputs], [reference])
    return weight, mask, target, moments, measure_moments(layer, [reference]).gram
