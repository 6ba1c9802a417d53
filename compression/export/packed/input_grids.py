"""Grids of layers' inputs in a file: how they are goes into the index, their numbers beside the
state dict's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from compression.errors import InvalidInput
from compression.export.packed.format_v2 import MAX_CODES
from compression.export.packed.order0_coder import next_varint, zigzag_decode, zigzag_encode
from compression.models.parametrize import QuantizationGrid, compressible

_MAX_RANK = 8


def input_state(grids: Mapping[str, QuantizationGrid]) -> dict[str, Tensor]:
    """The numbers of grids of inputs, named as entries of a state dict would be."""
    state = {}
    for name, grid in grids.items():
        state[f"{name}.input_scale"] = grid.scale.detach().float()
        state[f"{name}.input_zero_point"] = grid.zero_point.detach().to(torch.int16)
    return state


def input_grids_of(
    grids: Mapping[str, QuantizationGrid], state: Mapping[str, Tensor]
) -> dict[str, QuantizationGrid]:
    """Undo `input_state`; of `grids` only the codes are read."""
    return {
        name: QuantizationGrid(
            state[f"{name}.input_scale"], state[f"{name}.input_zero_point"], grid.low, grid.high
        )
        for name, grid in grids.items()
    }


def write_inputs(model: nn.Module, grids: Mapping[str, QuantizationGrid]) -> list[int]:
    """For every layer 0, or the rank of its input's grid, the dimensions with a scale for every
    channel, and the codes.

    Raises:
        InvalidInput: a grid has other scales than one, or one for every input channel.
    """
    index = []
    for name, layer in compressible(model):
        if name not in grids:
            index.append(0)
            continue
        grid, channels = grids[name], _input_channels(layer)
        shape = grid.scale.shape
        codes = grid.high - grid.low + 1
        fits = shape == grid.zero_point.shape and 1 <= len(shape) <= _MAX_RANK
        fits = fits and set(shape) <= {1, channels} and sum(n != 1 for n in shape) <= 1
        if not (fits and codes <= MAX_CODES):
            raise InvalidInput("inputs", f"{name}: {tuple(shape)}", f"one scale or {channels}")
        full = sum(1 << d for d, size in enumerate(shape) if size != 1)
        index += [len(shape), full, zigzag_encode(grid.low), codes]
    return index


def read_inputs(index: Iterator[int], model: nn.Module) -> dict[str, QuantizationGrid]:
    """Undo `write_inputs`: grids on the meta device, whose numbers are yet to be read.

    Raises:
        ValueError: the index is not what `write_inputs` gives.
    """
    grids = {}
    for name, layer in compressible(model):
        rank = next_varint(index)
        if rank == 0:
            continue
        full, low, codes = next_varint(index), zigzag_decode(next_varint(index)), next_varint(index)
        # At most one dimension is full, or a few numbers would ask for a large array.
        fits = rank <= _MAX_RANK and full < 1 << rank and full & (full - 1) == 0
        if not (fits and 1 <= codes <= MAX_CODES and abs(low) < 1 << 14):
            raise ValueError("the index holds a grid out of range")
        shape = [_input_channels(layer) if full >> d & 1 else 1 for d in range(rank)]
        scale = torch.empty(shape, device="meta")
        grids[name] = QuantizationGrid(scale, scale.to(torch.int16), low, low + codes - 1)
    return grids


def _input_channels(layer: nn.Module) -> int:
    return int(getattr(layer, "in_channels", 0) or getattr(layer, "in_features", 1))
