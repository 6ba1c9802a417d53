"""Batch-norm channels that pruning left without a signal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from compression.methods.calibration.paired_forward import Norm

# A variance of so much of epsilon: what is left of the signal is a hundredth of the scale.
CONSTANT = 1e-4


@torch.no_grad()
def silence(student: nn.Module, images: Tensor) -> list[RemovableHandle]:
    """Let batch-norm channels that pruning left constant give that constant, for good.

    Their variance is nothing beside epsilon, so that rounding errors of their inputs would come
    out a hundred times larger, layer after layer. The model answers as before.
    """
    seen: dict[Any, tuple[Tensor, Tensor]] = {}

    def see(module: nn.Module, given: tuple[Tensor]) -> None:
        axes = [d for d in range(given[0].ndim) if d != 1]
        seen[module] = (given[0].mean(axes), given[0].var(axes))

    norms = [m for m in student.modules() if isinstance(m, Norm) and m.affine]
    if not norms:
        return []
    watching = [m.register_forward_pre_hook(see) for m in norms]
    student.eval()(images)
    for handle in watching:
        handle.remove()
    held = []
    for module, (constant, variance) in seen.items():
        mean, spread = module.running_mean, module.running_var
        if mean is None or spread is None:
            continue
        alive = variance > CONSTANT * module.eps
        if not bool(alive.all()):
            scale = module.weight / (spread + module.eps).sqrt()
            module.bias.add_(torch.where(alive, 0.0, (constant - mean) * scale))
            module.weight.mul_(alive)
            held.append(module.weight.register_hook(lambda g, alive=alive: g * alive))
    return held
