"""What a training asks of its student beside its answers: grids, mode, magnitude."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from compression.methods.calibration.paired_forward import Norm
from compression.models.parametrize import FakeQuantize, compressible, part
from compression.recipe.steps import Distill

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, StochasticDepth)


def learned_grids(student: nn.Module) -> list[FakeQuantize]:
    """The grids of all layers that have one; from now on they are learned with the weights."""
    held = [part(module, FakeQuantize) for _, module in compressible(student)]
    grids = [q for q in held if isinstance(q, FakeQuantize)]
    for quantizer in grids:
        quantizer.learn()
    return grids


def train_mode(student: nn.Module, step: Distill) -> None:
    """Training, but for what is to stay as in evaluation. Less dropout for less capacity: Han et
    al., 2015."""
    student.train()
    still = (
        *(Norm if step.batchnorm == "frozen" else ()),
        *(DROPOUT if step.dropout == "none" else ()),
    )
    for module in student.modules():
        if isinstance(module, still):
            module.eval()


def magnitude(student: nn.Module) -> Tensor:
    """Sum of |w| over the weights that take part in the forward pass."""
    return torch.stack([m.weight.abs().sum() for _, m in compressible(student)]).sum()  # type: ignore[operator]
