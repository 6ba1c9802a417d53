"""Channels go, with all that depends on them; masks and grids stay with what stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compression.methods.prune.dependency_graph import trace
from compression.models.input_quantizers import (
    input_grids,
    parametrize_inputs,
    remove_input_quantizers,
)
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    grid_of,
    mask_of,
    parametrize_weight,
    remove_parametrization,
    weight_of,
)


def remove_outputs(
    model: nn.Module, example: Tensor, gone: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """Remove outputs of layers, and all that can only go with them, in place.

    Args:
        example: [1, c, h, w], any image of the model's input size.
        gone: the outputs to remove, by the layers' names.

    Returns:
        For each layer with a mask or grids, which weights stay: their places in the flat weight
        that was, int64, of the new weight's shape.
    """
    compressed = _remove_parametrizations(model)
    # Where gradients were taken, torch-pruning would narrow them too.
    model.zero_grad()
    channels_last = any(_is_channels_last(p) for p in model.parameters())
    graph, layers = trace(model, example), dict(compressible(model))
    for name, before in compressed.items():
        # Each weight's place stands in for it, which tells afterwards what stays.
        places = torch.arange(
            before.weight.numel(), dtype=torch.float64, device=before.weight.device
        )
        layers[name].weight = nn.Parameter(places.view(before.weight.shape))
    for name, outputs in gone.items():
        prune = graph.get_pruner_of_module(layers[name]).prune_out_channels
        graph.get_pruning_group(layers[name], prune, list(outputs)).prune()
    stay = {name: weight_of(layers[name]).long() for name in compressed}
    for name, before in compressed.items():
        _parametrize_again(model, name, layers[name], before, stay[name])
    if channels_last:
        model.to(memory_format=torch.channels_last)
    return stay


@dataclass(frozen=True)
class _Layer:
    """A layer's mask, grids and weight."""

    mask: Tensor | None
    grid: QuantizationGrid | None
    input_grid: QuantizationGrid | None
    weight: Tensor


def _remove_parametrizations(model: nn.Module) -> dict[str, _Layer]:
    """The layers that had a mask or a grid, by name; now all are ordinary."""
    inputs, layers = input_grids(model), {}
    remove_input_quantizers(model)
    for name, layer in compressible(model):
        parts = (mask_of(layer), grid_of(layer), inputs.get(name))
        remove_parametrization(layer)
        if any(part is not None for part in parts):
            layers[name] = _Layer(*parts, weight=weight_of(layer))
    return layers


def _parametrize_again(
    model: nn.Module, name: str, layer: nn.Module, before: _Layer, stay: Tensor
) -> None:
    layer.weight = nn.Parameter(before.weight.flatten()[stay])
    rows = stay.flatten(1)[:, 0] // before.weight[0].numel()
    mask = before.mask.flatten()[stay] if before.mask is not None else None
    parametrize_weight(layer, mask, _narrow(before.grid, 0, rows) if before.grid else None)
    if before.input_grid is not None:
        # One scale per input channel there is only where each has a row of its own (depthwise).
        parametrize_inputs(model, {name: _narrow(before.input_grid, 1, rows)})


def _narrow(grid: QuantizationGrid, dim: int, stays: Tensor) -> QuantizationGrid:
    def pick(values: Tensor) -> Tensor:
        same = values.ndim <= dim or values.shape[dim] == 1
        return values if same else values.index_select(dim, stays)

    return QuantizationGrid(pick(grid.scale), pick(grid.zero_point), grid.low, grid.high)


def _is_channels_last(tensor: Tensor) -> bool:
    return (
        tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )
