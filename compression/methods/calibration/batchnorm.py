"""Statistics of batch normalisation, estimated anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compression.methods.calibration.channel_statistics import pooled_variance
from compression.methods.calibration.lockstep import Lockstep
from compression.models.activation_memory import room_for
from compression.models.hooks import hooked
from compression.models.placement import evaluating

Norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@torch.no_grad()
def estimate_batchnorm(model: nn.Module, batches: Sequence[Tensor]) -> None:
    """Set the running statistics of batch normalisation to those of all batches, in place.

    Each layer's statistics are taken with those before it in place.

    Args:
        model: keeps its mode.
        batches: prepared images [n, ...] on its device.
    """
    norms = {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, Norm) and m.running_mean is not None
    }
    if not norms:
        return

    def gather(name: str, inputs: list[Tensor]) -> None:
        norm = norms[name]
        assert norm.running_mean is not None and norm.running_var is not None
        mean, variance, count = pooled_variance(inputs)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance * (count / max(1, count - 1)))

    lockstep: Lockstep[Tensor] = Lockstep(model, gather, room_for(model, batches, copies=1))

    def before(name: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        lockstep.meet(name, inputs[0])

    with evaluating(model), hooked(norms, pre=before):
        lockstep.go(batches)
