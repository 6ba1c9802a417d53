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
    """Remove outputs of layers, by name, and all that can only go with them, in place.

    Returns:
        For each layer with a mask or grids, which weights stay: their places in the flat weight
        that was, int64, of the new weight's shape.
    """
    held = _release(model)
    # Where gradients were taken, torch-pruning would narrow them too.
    model.zero_grad()
    channels_last = any(_is_channels_last(p) for p in model.parameters())
    graph, layers = trace(model, example), dict(compressible(model))
    for name, how in held.items():
        # Each weight's place stands in for it, so that what stays can be told afterwards.
        places = torch.arange(how.weight.numel(), dtype=torch.float64, device=how.weight.device)
        layers[name].weight = nn.Parameter(places.view(how.weight.shape))
    for name, outputs in gone.items():
        prune = graph.get_pruner_of_module(layers[name]).prune_out_channels
        graph.get_pruning_group(layers[name], prune, list(outputs)).prune()
    stay = {name: weight_of(layers[name]).long() for name in held}
    for name, how in held.items():
        _hold_again(model, name, layers[name], how, stay[name])
    if channels_last:
        model.to(memory_format=torch.channels_last)
    return stay


@dataclass(frozen=True)
class _Held:
    """How a layer was held, and its weight."""

    mask: Tensor | None
    grid: QuantizationGrid | None
    input_grid: QuantizationGrid | None
    weight: Tensor


def _release(model: nn.Module) -> dict[str, _Held]:
    inputs, held = input_grids(model), {}
    remove_input_quantizers(model)
    for name, layer in compressible(model):
        how = (mask_of(layer), grid_of(layer), inputs.get(name))
        remove_parametrization(layer)
        if any(h is not None for h in how):
            held[name] = _Held(*how, weight=weight_of(layer))
    return held


def _hold_again(model: nn.Module, name: str, layer: nn.Module, how: _Held, stay: Tensor) -> None:
    layer.weight = nn.Parameter(how.weight.flatten()[stay])
    rows = stay.flatten(1)[:, 0] // how.weight[0].numel()
    mask = how.mask.flatten()[stay] if how.mask is not None else None
    parametrize_weight(layer, mask, _narrow(how.grid, 0, rows) if how.grid else None)
    if how.input_grid is not None:
        # One scale per input channel there is only where each has a row of its own (depthwise).
        parametrize_inputs(model, {name: _narrow(how.input_grid, 1, rows)})


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
