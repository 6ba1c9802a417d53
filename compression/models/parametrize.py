"""How a compressed weight is held inside an ordinary `nn.Module`.

A weight is masked, then put on its grid, by `torch.nn.utils.parametrize`; so the model still
trains, exports and saves. Zero lies on every grid, which makes the order of the two immaterial.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize

KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class QuantizationGrid:
    """The values a quantized weight can take: `scale * (code - zero_point)`, code in [low, high].

    `scale` and `zero_point` broadcast against the weight: [channels, 1, ...] or [1, 1, ...].
    """

    scale: Tensor
    zero_point: Tensor
    low: int
    high: int

    def check(self) -> None:
        """Zero must lie on the grid, or masked weights could not stay zero.

        Raises:
            ValueError: a scale is not positive and finite, or a zero point is not a code.
        """
        if not bool(((self.scale > 0) & torch.isfinite(self.scale)).all()):
            raise ValueError("scale: every entry must be positive and finite")
        if not bool(((self.zero_point >= self.low) & (self.zero_point <= self.high)).all()):
            raise ValueError(f"zero_point: every entry must be from {self.low} to {self.high}")

    def encode(self, weight: Tensor) -> Tensor:
        """Nearest code of each weight: int16, the weight's shape."""
        codes = torch.round(weight / self.scale) + self.zero_point
        return codes.clamp(self.low, self.high).to(torch.int16)

    def decode(self, codes: Tensor) -> Tensor:
        """float32 weights of the codes. The one place where stored codes become weights."""
        return (codes.to(torch.float32) - self.zero_point.to(torch.float32)) * self.scale

    def snap(self, values: Tensor) -> Tensor:
        """Nearest of the grid's values, bit for bit as `decode(encode(values))`; no gradient.

        The codes stay floating point, which is quicker, and the result lies in memory as `values`
        do: a convolution whose weight does not lie as its images do turns them around.
        """
        zero, scale = self.zero_point.to(self.scale.dtype), self.scale
        with torch.no_grad():
            codes = values.to(torch.promote_types(values.dtype, scale.dtype), copy=True)
            codes.div_(scale).round_().add_(zero).clamp_(self.low, self.high).sub_(zero).mul_(scale)
        return codes.to(values.dtype)


class Mask(nn.Module):
    """Zeroes the weights whose mask is False; no gradient passes there."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight, 0.0)


class FakeQuantize(nn.Module):
    """Puts a weight on its grid; gradients pass straight through inside the grid's range.

    Straight-through estimator: Bengio et al., 2013. Between `learn` and `fix` the scale is a
    parameter with the gradient of learned step size quantization (LSQ, Esser et al., 2020).
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, grid: QuantizationGrid) -> None:
        super().__init__()
        grid.check()
        self.register_buffer("scale", grid.scale)
        self.register_buffer("zero_point", grid.zero_point)
        self.low, self.high = grid.low, grid.high

    @property
    def grid(self) -> QuantizationGrid:
        return QuantizationGrid(self.scale.detach(), self.zero_point, self.low, self.high)

    def learn(self) -> None:
        """Make the scale a parameter."""
        scale = self._buffers.pop("scale")
        assert scale is not None
        self._least = 1e-3 * scale
        self.register_parameter("scale", nn.Parameter(scale.clone()))

    @torch.no_grad()
    def bound(self) -> None:
        """After a step of an optimizer: keep a learned scale positive."""
        self.scale.copy_(torch.maximum(self.scale, self._least))

    def fix(self) -> None:
        """Make the scale a constant again, with its present value."""
        scale = self._parameters.pop("scale")
        assert scale is not None
        self.register_buffer("scale", scale.detach().clone())

    def forward(self, weight: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # what PyTorch's compiler and export can follow
            return self.grid.snap(weight)
        snapped: Tensor = _Snap.apply(weight, self.scale, self.grid)
        return snapped


class _Snap(torch.autograd.Function):
    """`Grid.snap`, and what it is taken for in training."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor, grid: QuantizationGrid) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.grid = grid
        return grid.snap(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (weight,), grid = ctx.saved_tensors, ctx.grid
        low, high = grid.low - grid.zero_point, grid.high - grid.zero_point
        inside = (weight >= low * grid.scale) & (weight <= high * grid.scale)
        passed = torch.where(inside, gradient, 0.0) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return passed, None, None
        codes = weight / grid.scale
        slopes = torch.where(inside, codes.round() - codes, codes.clamp(low, high))
        share = 1 / math.sqrt(weight.numel() / grid.scale.numel() * max(grid.high, 1))
        return passed, (gradient * slopes).sum_to_size(grid.scale.shape) * share, None


def compressible(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers whose weights are pruned and quantized: convolutions and linear layers, by name."""
    for name, module in model.named_modules():
        if isinstance(module, KINDS):
            yield name, module


def weight_of(module: nn.Module) -> Tensor:
    """The weight that takes part in the forward pass, detached."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def stored_weight(module: nn.Module) -> Tensor:
    """The tensor that training changes: the weight itself, or what lies under mask and grid."""
    stored: Any = module.weight
    if parametrize.is_parametrized(module, "weight"):
        parametrizations: Any = module.parametrizations
        stored = parametrizations["weight"].original
    assert isinstance(stored, Tensor)
    return stored


@torch.no_grad()
def put_weight(module: nn.Module, weight: Tensor) -> None:
    """Store a weight under whatever holds it; the shape is that of the layer's weight."""
    stored_weight(module).copy_(weight)


def mask_of(module: nn.Module) -> Tensor | None:
    """The mask on a layer's weight, bool of the weight's shape, True where it may differ from zero;
    None if it has none."""
    mask = _parametrization(module, Mask)
    return mask.mask if mask is not None else None


def grid_of(module: nn.Module) -> QuantizationGrid | None:
    """The grid on which a layer's weight is held; None if it is on none."""
    quantizer = quantizer_of(module)
    return quantizer.grid if quantizer is not None else None


def quantizer_of(module: nn.Module) -> FakeQuantize | None:
    """What puts a layer's weight on its grid (its scale can be learned); None if nothing does."""
    return _parametrization(module, FakeQuantize)


_Kind = TypeVar("_Kind", Mask, FakeQuantize)


def _parametrization(module: nn.Module, kind: type[_Kind]) -> _Kind | None:
    if not parametrize.is_parametrized(module, "weight"):
        return None
    steps: Any = module.parametrizations
    return next((step for step in steps["weight"] if isinstance(step, kind)), None)


@torch.no_grad()
def remove_parametrization(module: nn.Module) -> None:
    """Make a layer's weight an ordinary parameter again, with its present values."""
    if not parametrize.is_parametrized(module, "weight"):
        return
    # PyTorch gives a parametrized layer a class of its own, in which the weight is a property, and
    # copies of the layer share it. Its `remove_parametrizations` deletes the property from that
    # class, and so from the copies too; here the layer just goes back to the class it had.
    weight, stored = weight_of(module), stored_weight(module)
    del module.parametrizations
    module.__class__ = type(module).__bases__[0]
    stored.set_(weight)  # type: ignore[call-overload]
    module.register_parameter("weight", cast(nn.Parameter, stored))
    # It comes back last; state dicts and optimizers go by the order a fresh layer has.
    for name in [n for n, _ in module.named_parameters(recurse=False) if n != "weight"]:
        module.register_parameter(name, module._parameters.pop(name))


def parametrize_weight(
    module: nn.Module, mask: Tensor | None, grid: QuantizationGrid | None
) -> None:
    """Replace what a layer's weight is held by. The stored weight starts from the present one.

    A mask already there stays: its zeros are added to the new mask's.
    """
    old_mask = mask_of(module)
    if old_mask is not None:
        mask = old_mask if mask is None else mask & old_mask
    if grid is None:
        grid = grid_of(module)
    remove_parametrization(module)
    if mask is not None:
        parametrize.register_parametrization(module, "weight", Mask(mask), unsafe=True)
    if grid is not None:
        parametrize.register_parametrization(module, "weight", FakeQuantize(grid), unsafe=True)


def materialize(model: nn.Module) -> nn.Module:
    """A copy with ordinary weights that predicts the same: what is measured and exported."""
    copied = copy.deepcopy(model)
    for module in list(copied.modules()):
        remove_parametrization(module)
    return copied
