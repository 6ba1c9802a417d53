"""Cross-layer equalization: even ranges of channels, and the same function of the image.

Nagel et al., Data-free quantization through weight equalization and bias correction, 2019. What
leaves a channel is divided by s and what the next layers make of it is multiplied by s. Batch norm
is scaled instead of folded, so that its statistics may be estimated again.

Only where it is exact: no pair is made across a ReLU6, whose cap does not scale, for the paper's
ReLU in its place would be another architecture (and channels within six standard deviations of the
cap still change a MobileNetV2's logits by a hundredth). Its filters before batch norm are evened.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from compression.errors import CompressionError
from compression.methods.calibration.second_moments import groups_of
from compression.models.input_quantizers import input_grids
from compression.models.parametrize import (
    compressible,
    grid_of,
    put_weight,
    weight_of,
)

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# f(x / s) = f(x) / s for s > 0, channel by channel
_HOMOGENEOUS = (
    *(nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
)
_HOMOGENEOUS_FUNCTIONS = (
    *(F.relu, torch.relu, F.leaky_relu, F.dropout, F.max_pool2d, F.avg_pool2d),
    *(F.adaptive_avg_pool2d, torch.adaptive_avg_pool1d),
)
_DEVIATIONS = 3.0
_MOST = 64.0
_PASSES = 4


@dataclass(frozen=True)
class _Pair:
    """A layer, its batch norm if it has one, and all the layers that use what it gives."""

    source: nn.Module
    norm: nn.Module | None
    targets: tuple[nn.Module, ...]


@torch.no_grad()
def equalize(model: nn.Module, rows: bool = True) -> int:
    """Even out ranges in place; how many layers changed. Masked weights stay zero.

    The channels between two layers get s = sqrt(a / r): their range (from batch norm, or the
    weights that make them) and the largest weight that uses them meet halfway. With `rows`, each
    filter before a batch norm is scaled to one size too, which the norm undoes: a single scale
    then fits all filters. Layers whose weights or inputs are on a grid already are left alone.

    Raises:
        CompressionError: the model's connections cannot be traced.
    """
    pairs, normed = _connections(model)
    changed = set()
    for _ in range(_PASSES):
        for pair in pairs:
            scale = _scale(pair)
            if bool((scale - 1).abs().max() > 1e-3):
                changed.add(pair.source)
                _divide(pair, scale)
    for layer, norm in normed if rows else []:
        if _even_rows(layer, norm):
            changed.add(layer)
    return len(changed)


def normed_layers(model: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Layers and the batch norms that alone use what they give.

    Raises:
        CompressionError: the model's connections cannot be traced.
    """
    return _connections(model)[1]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        leaf = isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, *_NORMS))
        return leaf or super().is_leaf_module(m, module_qualified_name)


def _connections(model: nn.Module) -> tuple[list[_Pair], list[tuple[nn.Module, nn.Module]]]:
    try:
        graph = _Tracer().trace(model)
    except Exception as error:
        # tracing runs the model's own code, which may raise anything
        raise CompressionError(
            f"equalization: {type(model).__name__} cannot be traced ({type(error).__name__})"
        ) from None
    modules = dict(model.named_modules())
    calls = [modules[str(n.target)] for n in graph.nodes if n.op == "call_module"]
    inputs = input_grids(model)
    free = {
        module
        for name, module in compressible(model)
        if calls.count(module) == 1 and name not in inputs and grid_of(module) is None
    }
    pairs, normed = [], []
    for node in graph.nodes:
        layer = _module(node, modules)
        if layer not in free:
            continue
        assert layer is not None
        norm = _norm_after(node, modules, calls)
        if norm is not None:
            normed.append((layer, norm))
        end = next(iter(node.users)) if norm is not None else node
        targets = _reach(end, modules)
        if targets and all(t in free for t in targets):
            pairs.append(_Pair(layer, norm, tuple(targets)))
    return pairs, normed


def _module(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _norm_after(
    node: fx.Node, modules: dict[str, nn.Module], calls: list[nn.Module]
) -> nn.Module | None:
    if len(node.users) != 1:
        return None
    norm = _module(next(iter(node.users)), modules)
    usable = isinstance(norm, _NORMS) and norm.affine and norm.track_running_stats
    return norm if usable and norm is not None and calls.count(norm) == 1 else None


def _reach(node: fx.Node, modules: dict[str, nn.Module]) -> list[nn.Module]:
    """The layers that use a node, if all do and through homogeneous functions alone."""
    targets: list[nn.Module] = []
    for user in node.users:
        module = _module(user, modules)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            targets.append(module)
        elif isinstance(module, _HOMOGENEOUS) or user.target in _HOMOGENEOUS_FUNCTIONS:
            beyond = _reach(user, modules)
            if not beyond:
                return []
            targets += beyond
        else:
            return []
    return targets


def _by_input(module: nn.Module) -> Tensor:
    """Largest magnitude among the weights that use each input channel, [channels]."""
    weight, groups = weight_of(module).abs(), groups_of(module)
    largest: Tensor = weight.unflatten(0, (groups, -1)).amax((1, *range(3, weight.ndim + 1)))
    return largest.flatten()


def _scale(pair: _Pair) -> Tensor:
    """What each channel between the layers is to be divided by, [channels]."""
    used = torch.stack([_by_input(t) for t in pair.targets]).amax(0)
    if pair.norm is None:
        given = weight_of(pair.source).abs().flatten(1).amax(1)
    else:
        given = (pair.norm.bias + _DEVIATIONS * pair.norm.weight.abs()).abs()  # type: ignore[operator]
    if given.shape != used.shape:  # a linear layer that sees each channel several times
        return torch.ones_like(given)
    usable = (given > 1e-6) & (used > 1e-6)
    scale = torch.where(usable, (given / used.clamp(min=1e-30)).sqrt(), 1.0)
    return scale.clamp(1 / _MOST, _MOST)


def _divide(pair: _Pair, scale: Tensor) -> None:
    if pair.norm is None:
        _multiply_rows(pair.source, 1 / scale)
    else:
        pair.norm.weight.div_(scale)  # type: ignore[operator]
        pair.norm.bias.div_(scale)  # type: ignore[operator]
    for target in pair.targets:
        weight, groups = weight_of(target), groups_of(target)
        each = scale.view(groups, 1, -1, *[1] * (weight.ndim - 2))
        put_weight(target, (weight.unflatten(0, (groups, -1)) * each).flatten(0, 1))


def _even_rows(layer: nn.Module, norm: nn.Module) -> bool:
    """Scale every filter to the size of the middle one; the norm after it undoes that."""
    size = weight_of(layer).abs().flatten(1).amax(1)
    usable = size > 1e-6 * size.max()
    if not bool(usable.any()):
        return False
    factor = torch.where(usable, size[usable].median() / size.clamp(min=1e-30), 1.0)
    mean, var, eps = norm.running_mean, norm.running_var, norm.eps
    assert isinstance(mean, Tensor) and isinstance(var, Tensor) and isinstance(eps, float)
    before = (var + eps).sqrt()
    _multiply_rows(layer, factor)
    mean.mul_(factor)
    var.mul_(factor.square())
    norm.weight.mul_((var + eps).sqrt() / (before * factor))  # type: ignore[operator]
    return bool((factor - 1).abs().max() > 1e-3)


def _multiply_rows(layer: nn.Module, factor: Tensor) -> None:
    weight = weight_of(layer)
    put_weight(layer, weight * factor.view(-1, *[1] * (weight.ndim - 1)))
    if isinstance(layer.bias, Tensor):
        layer.bias.mul_(factor)
