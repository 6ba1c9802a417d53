"""Second moments of layers' inputs: all that a change of a layer's weights needs to be judged by.

A layer's weights are seen as rows [groups, outputs per group, inputs], its inputs as patches
[groups, inputs, positions]; a linear layer has one group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Positions (image, row, column) beyond these times the number of inputs add little but time.
POSITIONS_PER_INPUT = 32
LEAST_POSITIONS = 16_384
CHUNK = 250


@dataclass(frozen=True)
class SecondMoments:
    """Means over positions of x x' [groups, seen, seen], and of r x' for the reference's inputs r.

    `gram` is half the Hessian of the layer's mean squared output error by its rows of weights, the
    H of GPTQ and OBS without its factor of 2: a row that changes by d adds an error of d gram d'.
    `seen` [inputs] marks the inputs that are not zero by construction: a kernel's taps that only
    ever meet the padding have no part in the output, and none here.
    """

    seen: Tensor
    gram: Tensor
    cross: Tensor


def weight_rows(weight: Tensor, groups: int) -> Tensor:
    """A weight as [groups, outputs per group, inputs]."""
    return weight.reshape(groups, weight.shape[0] // groups, -1)


def groups_of(module: nn.Module) -> int:
    """Groups of a convolution; 1 for a linear layer."""
    return int(getattr(module, "groups", 1))


def im2col(module: nn.Module, inputs: Tensor) -> Tensor:
    """What each output position sees: [groups, inputs, positions].

    Raises:
        TypeError: not a linear layer or a two-dimensional convolution.
    """
    if isinstance(module, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1]).T.unsqueeze(0)
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"no moments for a {type(module).__name__}")
    x = inputs
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
        padding: tuple[int, ...] = (0, 0)
    else:
        padding = module.padding
    if module.kernel_size == (1, 1) and padding == (0, 0):
        x = x[:, :, :: module.stride[0], :: module.stride[1]].flatten(2)
    else:
        x = F.unfold(x.contiguous(), module.kernel_size, module.dilation, padding, module.stride)
    n, depth, spots = x.shape
    x = x.reshape(n, module.groups, depth // module.groups, spots)
    return x.permute(1, 2, 0, 3).reshape(module.groups, depth // module.groups, n * spots)


def measure_moments(
    module: nn.Module, inputs: Tensor, reference: Tensor | None = None
) -> SecondMoments:
    """Moments of a layer's inputs [n, ...]; against themselves if no `reference` is given."""
    other = inputs if reference is None else reference
    first = im2col(module, inputs[:1])
    per_image, depth = first.shape[2], first.shape[1]
    positions = max(LEAST_POSITIONS, POSITIONS_PER_INPUT * depth)
    n = min(len(inputs), max(CHUNK, -(-positions // per_image)))
    seen = _active_inputs(module, inputs)
    size = (len(first), int(seen.sum()), int(seen.sum()))
    gram, cross = first.new_zeros(size), first.new_zeros(size)
    for start in range(0, n, CHUNK):
        x = im2col(module, inputs[start : min(start + CHUNK, n)])[:, seen]
        gram.baddbmm_(x, x.transpose(1, 2))
        if reference is not None:
            r = im2col(module, other[start : min(start + CHUNK, n)])[:, seen]
            cross.baddbmm_(r, x.transpose(1, 2))
    positions = n * per_image
    gram /= positions
    return SecondMoments(seen, gram, gram if reference is None else cross.div_(positions))


def _active_inputs(module: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs that are not always padding: bool [inputs]."""
    ones = im2col(module, torch.ones_like(inputs[:1]))
    seen = (ones != 0).any(2).all(0)
    # a group must not be left without inputs
    return seen if bool(seen.any()) else torch.ones_like(seen)


def damped(gram: Tensor, fraction: float) -> Tensor:
    """Gram matrices [g, d, d], each with `fraction` of its mean diagonal added to the diagonal.

    A group whose inputs are all zero is given a little of the others' power.
    """
    diagonal = gram.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    mean = mean.clamp_min(1e-4 * float(mean.mean()) + 1e-12)
    return gram + torch.diag_embed((fraction * mean).expand_as(diagonal))


def output_error(change: Tensor, gram: Tensor) -> Tensor:
    """Mean squared change of each output [g, o] if the rows change by `change` [g, o, d]."""
    return ((change @ gram) * change).sum(2)


def measurable(module: nn.Module) -> bool:
    """Whether `measure_moments` knows the kind of layer."""
    return isinstance(module, nn.Linear | nn.Conv2d)
