"""Structured pruning: whole channels go, with everything that depends on them, and the model is
really smaller.

What depends on what is found by torch-pruning's dependency graph (DepGraph: Fang et al., 2023),
and its group scores rank the channels; how many go is counted here, so that it is exact.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning as tp
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from compression.activations import hold_inputs, input_grids, release_inputs
from compression.errors import InvalidInput
from compression.layers import (
    FakeQuantize,
    Grid,
    Mask,
    compressible,
    hold,
    part,
    release,
    weight_of,
)
from compression.prune.coupling import Coupled, Score, coupled_channels, trace, whole_layers
from compression.prune.units import removed_globally, removed_per_layer
from compression.structures import refusal, require_channels

SCOPES = {"global": removed_globally, "layer": removed_per_layer}
# What torch-pruning has been seen to raise where it loses track, and what PyTorch does then.
_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def remove_channels(
    model: nn.Module,
    *,
    architecture: str,
    example: Tensor,
    sparsity: float,
    score: str = "magnitude",
    scope: str = "global",
    round_to: int = 8,
    batch: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
) -> str | None:
    """Remove the least important fraction `sparsity` of the channels, in place.

    Channels that can only go together count once. What stays of a layer is a multiple of
    `round_to` and at least `round_to`; smaller layers and the classifier's outputs stay whole.
    Masks and grids stay with the channels that stay.

    Args:
        example: [n, 3, h, w], any image of the model's input size.
        score: `magnitude` (L2 norm), `taylor` (|w g| on `batch`: Molchanov et al., 2019),
            `batchnorm` (scale factors: Liu et al., 2017) or `random` (by `seed` alone), each over
            all that goes with a channel, relative to the layer's mean.
        scope: `global` (one ranking) or `layer` (the same fraction of every layer).
        batch: images [n, 3, h, w] and labels [n], which `taylor` needs.

    Returns:
        What there is to say, if anything.

    Raises:
        InvalidInput: the model is not supported, or a setting is not possible with it.
    """
    require_channels(architecture)
    if not 0 <= sparsity < 1:
        raise InvalidInput("sparsity", sparsity, "from 0 to less than 1 with pattern channels")
    held = _release(model.eval())
    example = example[:1].to(next(model.parameters()).device)
    rank = _scorer(model, score, batch, seed)
    with _refused(architecture):
        graph = trace(model, example)
        coupled, whole = coupled_channels(graph, whole_layers(model, example), rank)
    if not coupled:
        raise InvalidInput("score", score, f"another score: {architecture} has nothing it can rank")
    scores, sizes = [c.scores for c in coupled], [c.size for c in coupled]
    counts = SCOPES[scope](scores, sizes, sparsity, round_to)
    with _refused(architecture):
        _remove(model, graph, coupled, counts, held)
        _check(model, example)
    total = sum(s.numel() * size for s, size in zip(scores, sizes, strict=True))
    removed = sum(n * size for n, size in zip(counts, sizes, strict=True))
    return _say(model, removed, total, sparsity, round_to, whole)


def try_channels(model: nn.Module, architecture: str, input_shape: tuple[int, ...]) -> None:
    """Remove half the channels of a copy without memory, on the meta device: a fraction of a
    second tells whether it can be done at all.

    Raises:
        InvalidInput: it cannot; says why.
    """
    require_channels(architecture)
    with _refused(architecture):
        twin = copy.deepcopy(model)
        for _, module in compressible(twin):
            release(module)
        release_inputs(twin)
        twin = twin.to("meta").eval()
        example = torch.empty(1, *input_shape, device="meta")
        graph = trace(twin, example)
        coupled, _ = coupled_channels(graph, whole_layers(twin, example), _in_order)
        counts = removed_per_layer([c.scores for c in coupled], [c.size for c in coupled], 0.5, 1)
        _remove(twin, graph, coupled, counts, {})
        with torch.no_grad():
            twin(example)


@contextmanager
def _refused(architecture: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        reason = f"torch-pruning fails on it ({type(error).__name__})"
        raise refusal(architecture, reason) from error


# Scores


def _in_order(group: Any) -> Tensor:
    return torch.arange(len(group[0].idxs)).float()


def _scorer(model: nn.Module, score: str, batch: tuple[Tensor, Tensor] | None, seed: int) -> Score:
    if score == "taylor":
        if batch is None:
            raise InvalidInput("score", score, "another for a model without a data set")
        _differentiate(model, *batch)
    if score == "random":
        generator = torch.Generator().manual_seed(seed)
        return lambda group: torch.rand(len(group[0].idxs), generator=generator)
    scores: dict[str, Callable[[], Score]] = {
        "magnitude": tp.importance.GroupMagnitudeImportance,
        "taylor": tp.importance.GroupTaylorImportance,
        "batchnorm": tp.importance.BNScaleImportance,
    }
    if score not in scores:
        raise InvalidInput("score", score, f"{', '.join(scores)}, random with pattern channels")
    return scores[score]()


def _differentiate(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    device = next(model.parameters()).device
    model.zero_grad()
    with torch.enable_grad():
        F.cross_entropy(model(images.to(device)), labels.to(device)).backward()


# Removal


@dataclass(frozen=True)
class _Held:
    """How a layer was held, and its weight."""

    mask: Tensor | None
    grid: Grid | None
    input_grid: Grid | None
    weight: Tensor


def _release(model: nn.Module) -> dict[str, _Held]:
    inputs, held = input_grids(model), {}
    release_inputs(model)
    for name, layer in compressible(model):
        mask, grid = part(layer, Mask), part(layer, FakeQuantize)
        release(layer)
        how = (
            mask.mask if isinstance(mask, Mask) else None,
            grid.grid if isinstance(grid, FakeQuantize) else None,
            inputs.get(name),
        )
        if any(h is not None for h in how):
            held[name] = _Held(*how, weight=weight_of(layer))
    return held


def _remove(
    model: nn.Module,
    graph: Any,
    coupled: list[Coupled],
    counts: list[int],
    held: dict[str, _Held],
) -> None:
    channels_last = any(_is_channels_last(p) for p in model.parameters())
    model.zero_grad()
    layers = dict(compressible(model))
    for name, how in held.items():
        # Each weight's place stands in for it, so that what stays can be told afterwards.
        places = torch.arange(how.weight.numel(), dtype=torch.float64, device=how.weight.device)
        layers[name].weight = nn.Parameter(places.view(how.weight.shape))
    for group, count in zip(coupled, counts, strict=True):
        if not count:
            continue
        least = group.scores.argsort(stable=True)[:count]
        units = group.scores.numel()
        gone = torch.cat([least + units * i for i in range(group.size)]).sort().values.tolist()
        prune = graph.get_pruner_of_module(group.layer).prune_out_channels
        graph.get_pruning_group(group.layer, prune, gone).prune()
    for name, how in held.items():
        _hold_again(model, name, layers[name], how)
    if channels_last:
        model.to(memory_format=torch.channels_last)


def _hold_again(model: nn.Module, name: str, layer: nn.Module, how: _Held) -> None:
    places = weight_of(layer).long()
    layer.weight = nn.Parameter(how.weight.flatten()[places])
    rows = places.flatten(1)[:, 0] // how.weight[0].numel()
    mask = how.mask.flatten()[places] if how.mask is not None else None
    hold(layer, mask, _narrow(how.grid, 0, rows) if how.grid else None)
    if how.input_grid is not None:
        # One scale per input channel there is only where each has a row of its own (depthwise).
        hold_inputs(model, {name: _narrow(how.input_grid, 1, rows)})


def _narrow(grid: Grid, dim: int, stays: Tensor) -> Grid:
    def pick(values: Tensor) -> Tensor:
        same = values.ndim <= dim or values.shape[dim] == 1
        return values if same else values.index_select(dim, stays)

    return Grid(pick(grid.scale), pick(grid.zero_point), grid.low, grid.high)


def _is_channels_last(tensor: Tensor) -> bool:
    return (
        tensor.ndim == 4
        and tensor.is_contiguous(memory_format=torch.channels_last)
        and not tensor.is_contiguous()
    )


def _check(model: nn.Module, example: Tensor) -> None:
    with torch.no_grad():
        out = model(example)
    if not bool(torch.isfinite(out).all()):
        raise ArithmeticError("its answers are no longer finite")


def _say(
    model: nn.Module, removed: int, total: int, sparsity: float, round_to: int, whole: int
) -> str | None:
    said = []
    if removed == 0:
        said.append("Pruning changed nothing: no channels were removed")
    elif removed / total - sparsity > 0.01 or sparsity - removed / total > 0.01:
        said.append(f"{100 * removed / total:.3g} % of the channels were removed")
    if said:
        said[0] += f", for what stays of a layer is a multiple of {round_to}."
    if isinstance(model, VisionTransformer):
        said.append("Of a vision transformer only channels inside the MLP blocks are removed.")
    if whole:
        said.append(f"{whole} groups of layers without batch normalisation keep their channels.")
    return " ".join(said) or None
