"""What is done to a student for its training: learned grids, train mode, frozen channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchvision.ops import StochasticDepth

from compression.methods.calibration.batchnorm import Norm
from compression.methods.calibration.channel_statistics import pooled_moments, pooled_variance
from compression.models.hooks import hooked
from compression.models.parametrize import FakeQuantize, compressible, quantizer_of
from compression.recipe.steps import Distill

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, StochasticDepth)


def learned_grids(student: nn.Module) -> list[FakeQuantize]:
    """The grids of all layers that have one; from now on they are learned with the weights."""
    grids = [q for _, module in compressible(student) if (q := quantizer_of(module))]
    for quantizer in grids:
        quantizer.learn()
    return grids


def train_mode(student: nn.Module, step: Distill) -> None:
    """Training, but for what is to stay as in evaluation. Less dropout for less capacity: Han et
    al., 2015."""
    student.train()
    kept_in_eval = (
        *(Norm if step.batchnorm == "frozen" else ()),
        *(DROPOUT if step.dropout == "none" else ()),
    )
    for module in student.modules():
        if isinstance(module, kept_in_eval):
            module.eval()


def magnitude(student: nn.Module) -> Tensor:
    """Sum of |w| over the weights that take part in the forward pass."""
    return torch.stack([m.weight.abs().sum() for _, m in compressible(student)]).sum()  # type: ignore[operator]


# A variance of so much of epsilon: what is left of the signal is a hundredth of the scale.
CONSTANT = 1e-4


@torch.no_grad()
def freeze_dead_channels(student: nn.Module, batches: Sequence[Tensor]) -> list[RemovableHandle]:
    """Let batch-norm channels that pruning left constant give that constant, for good.

    Their variance is nothing beside epsilon, so that rounding errors of their inputs would come
    out a hundred times larger, layer after layer. The model's outputs stay as they are.
    """
    parts: dict[Any, list[tuple[Tensor, Tensor, int]]] = {}

    def measure(_: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        parts.setdefault(module, []).append(pooled_variance(inputs[:1]))

    norms = {n: m for n, m in student.named_modules() if isinstance(m, Norm) and m.affine}
    if not norms:
        return []
    with hooked(norms, pre=measure):
        for images in batches:
            student.eval()(images)
    handles = []
    for module, measured in parts.items():
        constant, variance = pooled_moments(measured)
        mean, spread = module.running_mean, module.running_var
        if mean is None or spread is None:
            continue
        alive = variance > CONSTANT * module.eps
        if not bool(alive.all()):
            scale = module.weight / (spread + module.eps).sqrt()
            module.bias.add_(torch.where(alive, 0.0, (constant - mean) * scale))
            module.weight.mul_(alive)
            handles.append(module.weight.register_hook(lambda g, alive=alive: g * alive))
    return handles
