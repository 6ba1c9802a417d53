"""Statistics of batch normalisation, estimated anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def estimate_batchnorm(model: nn.Module, images: Tensor) -> None:
    """Set the running statistics of batch normalisation to those of `images`, in place.

    `images` are prepared, [n, c, h, w] on the model's device. They are one batch, so each layer's
    statistics are taken with those before it in place.
    """
    norms = [m for m in model.modules() if isinstance(m, Norm)]
    if norms:
        with _estimating(norms):
            model(images)


@contextmanager
def _estimating(norms: Iterable[nn.Module]) -> Iterator[None]:
    """Let batch norms take this one batch's statistics for their running ones."""
    layers = [m for m in norms if isinstance(m, Norm)]
    before = [(m.momentum, m.training) for m in layers]
    for m in layers:
        m.momentum = 1.0
        m.train()
    try:
        yield
    finally:
        for m, (momentum, training) in zip(layers, before, strict=True):
            m.momentum = momentum
            m.train(training)
