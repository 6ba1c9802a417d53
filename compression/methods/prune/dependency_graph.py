"""Which channels can only go together: torch-pruning's dependency graph (Fang et al., 2023)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from compression.models.hooks import hooked
from compression.models.parametrize import compressible

Score = Callable[[Any], Tensor | None]


@dataclass(frozen=True)
class Coupled:
    """Channels that go together with those of other layers.

    `scores` [units]: what each unit is worth; a unit is `size` channels of `layer`, one from each
    group of a grouped convolution.
    """

    layer: nn.Module
    scores: Tensor
    size: int


def trace(model: nn.Module, example: Tensor) -> Any:
    """The dependency graph of a model whose weights are ordinary, on `example` [1, 3, h, w]."""
    # Gradients, because the graph is traced backwards from the outputs.
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tp.DependencyGraph().build_dependency(model, example, verbose=False)


def coupled_channels(
    graph: Any, ignored: list[nn.Module], rank: Score
) -> tuple[list[Coupled], int]:
    """What can be removed, and how many groups were left out for want of a score.

    Args:
        graph: as `trace` gives it.
        ignored: layers that keep their outputs.
        rank: scores of a group's channels [channels], or None where it has none for them.
    """
    coupled, without = [], 0
    for group in graph.get_all_groups(ignored, [nn.Conv2d, nn.Linear]):
        scores = rank(group)
        if scores is None:
            without += 1
            continue
        size = max((_groups(dep.target.module) for dep, _ in group), default=1)
        scores = torch.nan_to_num(scores.detach().float().cpu()).view(size, -1).mean(0)
        coupled.append(Coupled(group[0].dep.target.module, scores, size))
    return coupled, without


def _groups(module: nn.Module) -> int:
    groups = getattr(module, "groups", 1)
    return 1 if groups == getattr(module, "out_channels", 0) else int(groups)


def whole_layers(model: nn.Module, example: Tensor) -> list[nn.Module]:
    """Layers that keep their outputs: the classifier's last, and all of a vision transformer but
    the first layer of each MLP, for its heads and its residual stream hold their sizes."""
    if isinstance(model, VisionTransformer):
        inner = {block.mlp[0] for block in model.encoder.layers}
        return [layer for _, layer in compressible(model) if layer not in inner]
    called: list[nn.Module] = []
    layers = dict(compressible(model))
    with torch.no_grad(), hooked(layers, post=lambda _, module, *__: called.append(module)):
        model(example)
    return called[-1:]
