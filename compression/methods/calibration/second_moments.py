"""Second moments of layers' inputs: all that a change of a layer's weights needs to be judged by.

A layer's weights are seen as rows [groups, outputs per group, inputs], its inputs as patches
[groups, inputs, positions]; a linear layer has one group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Positions (image, row, column) beyond these, or these times the number of inputs, add little but
# time.
POSITIONS_PER_INPUT = 32
LEAST_POSITIONS = 32_768
# Positions of one image are alike, so they are taken from so many images if there are.
LEAST_IMAGES = 500
# Patches that are made at once.
CHUNK_BYTES = 96 * 2**20


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


def im2col(module: nn.Module, inputs: Tensor, every: int = 1, shift: int = 0) -> Tensor:
    """What each output position sees: [groups, inputs, positions].

    Args:
        module: the layer.
        inputs: its inputs [n, ...].
        every: only each so manyeth position along each axis.
        shift: the first of them.

    Raises:
        TypeError: not a linear layer or a two-dimensional convolution.
    """
    if isinstance(module, nn.Linear):
        tokens = inputs.reshape(len(inputs), -1, inputs.shape[-1])
        tokens = tokens[:, shift % min(every, tokens.shape[1]) :: every]
        return tokens.reshape(-1, tokens.shape[-1]).T.unsqueeze(0)
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"no moments for a {type(module).__name__}")
    x, padding = inputs, module.padding
    if every > 1 or isinstance(padding, str) or module.padding_mode != "zeros":
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
        padding = (0, 0)
    stride = tuple(every * s for s in module.stride)
    if every > 1:
        down, right = (
            (shift // part) % min(every, _positions(module, x, axis)) * module.stride[axis]
            for axis, part in ((0, 1), (1, every))
        )
        x = x[:, :, down:, right:]
    if module.kernel_size == (1, 1) and padding == (0, 0):
        x = x[:, :, :: stride[0], :: stride[1]].flatten(2)
    else:
        x = F.unfold(x.contiguous(), module.kernel_size, module.dilation, padding, stride)
    n, depth, spots = x.shape
    x = x.reshape(n, module.groups, depth // module.groups, spots)
    return x.permute(1, 2, 0, 3).reshape(module.groups, depth // module.groups, n * spots)


def _positions(module: nn.Conv2d, padded: Tensor, axis: int) -> int:
    """Output positions along an axis."""
    reach = module.dilation[axis] * (module.kernel_size[axis] - 1)
    spots: int = (padded.shape[2 + axis] - reach - 1) // module.stride[axis] + 1
    return spots


def measure_moments(
    module: nn.Module, batches: Sequence[Tensor], reference: Sequence[Tensor] | None = None
) -> SecondMoments:
    """Moments of a layer's inputs, batches of [n, ...]; of their products with themselves if no
    `reference` is given.

    Of large images a grid of positions is taken, shifted from batch to batch, so that there are
    about as many positions as the moments need.
    """
    seen = _active_inputs(module, batches[0][:1])
    first = im2col(module, batches[0][:1])
    groups, depth, per_image = first.shape
    wanted = max(LEAST_POSITIONS, POSITIONS_PER_INPUT * depth)
    images = min(sum(map(len, batches)), max(LEAST_IMAGES, -(-wanted // per_image)))
    every = _spacing(module, per_image, wanted / images)
    chunk = max(1, CHUNK_BYTES * every ** _dimensions(module) // first.nbytes)
    size = (groups, int(seen.sum()), int(seen.sum()))
    gram, cross = first.new_zeros(size), first.new_zeros(size)
    positions = 0
    for at, x, r in _chunks(batches, reference, chunk, images):
        columns = im2col(module, x, every, at)[:, seen]
        gram.baddbmm_(columns, columns.transpose(1, 2))
        if r is not None:
            cross.baddbmm_(im2col(module, r, every, at)[:, seen], columns.transpose(1, 2))
        positions += columns.shape[2]
    gram /= positions
    return SecondMoments(seen, gram, gram if reference is None else cross.div_(positions))


def _chunks(
    batches: Sequence[Tensor], reference: Sequence[Tensor] | None, size: int, images: int
) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Numbered parts of at most `size` of the first images, with the same of the reference."""
    others = [None] * len(batches) if reference is None else reference
    at = 0
    for x, r in zip(batches, others, strict=True):
        for start in range(0, min(len(x), images), size):
            stop = min(start + size, images)
            yield at, x[start:stop], None if r is None else r[start:stop]
            at += 1
        images -= len(x)


def _dimensions(module: nn.Module) -> int:
    return 1 if isinstance(module, nn.Linear) else 2


def _spacing(module: nn.Module, per_image: int, wanted: float) -> int:
    """Every how manyeth position is taken along each axis for at least `wanted` of an image."""
    along_each: float = (per_image / max(wanted, 1.0)) ** (1 / _dimensions(module))
    return max(1, math.floor(along_each))


def _active_inputs(module: nn.Module, one: Tensor) -> Tensor:
    """Inputs that are not always padding: bool [inputs]."""
    ones = im2col(module, torch.ones_like(one))
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
