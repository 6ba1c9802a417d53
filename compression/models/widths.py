"""The widths of a model's layers: what tells a model with fewer channels from its architecture.

One whole number for every width, in the order of the modules; so a model of removed channels is
its architecture and these numbers, and no width can be larger than the architecture's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from compression.models.parametrize import remove_parametrization

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_SIDE = 224  # pixels of an image that every model takes which does not name its own


def widths(model: nn.Module) -> tuple[int, ...]:
    """Channels out and in of every layer, features of every normalisation, and the shapes of
    parameters that belong to no such layer."""
    return tuple(width for module in _modules(model) for width in _widths(module))


def resize(model: nn.Module, wanted: Sequence[int]) -> None:
    """Give a model of a stock architecture the widths of another, in place.

    Weights of layers that change become ordinary parameters without meaningful values.

    Raises:
        ValueError: not as many widths as the model has, or one that it cannot have.
    """
    modules = list(_modules(model))
    stock = [_widths(module) for module in modules]
    if len(wanted) != sum(map(len, stock)):
        raise ValueError("other widths than the architecture has")
    at = 0
    for module, old in zip(modules, stock, strict=True):
        new = tuple(wanted[at : at + len(old)])
        at += len(old)
        if not all(1 <= n <= o for n, o in zip(new, old, strict=True)):
            raise ValueError("a width that the architecture does not allow")
        if new != old:
            _resize(module, new)


def runs(model: nn.Module, classes: int) -> bool:
    """Whether a model on the meta device takes an image and gives a score for every class."""
    side = getattr(model, "image_size", _SIDE)
    try:
        with torch.no_grad():
            out = model.eval()(torch.empty(1, 3, side, side, device="meta"))
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, ArithmeticError):
        return False
    return tuple(out.shape) == (1, classes)


def _modules(model: nn.Module) -> Iterator[nn.Module]:
    # What holds a weight in place (a parametrization) is no layer of the architecture.
    for name, module in model.named_modules():
        if ".parametrizations" not in name and not name.endswith("parametrizations"):
            yield module


def _widths(module: nn.Module) -> tuple[int, ...]:
    if isinstance(module, _CONVS):
        if _depthwise(module):
            return (module.out_channels,)
        return (module.out_channels, module.in_channels)
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    if isinstance(module, _BATCH_NORMS):
        return (module.num_features,)
    if isinstance(module, nn.LayerNorm):
        return tuple(module.normalized_shape)
    return tuple(n for _, tensor in _loose(module) for n in tensor.shape)


def _depthwise(module: nn.Module) -> bool:
    return bool(
        isinstance(module, _CONVS)
        and 1 < module.groups == module.in_channels == module.out_channels
    )


def _loose(module: nn.Module) -> list[tuple[str, Tensor]]:
    return list(module.named_parameters(recurse=False))


def _resize(module: nn.Module, new: tuple[int, ...]) -> None:
    remove_parametrization(module)
    if isinstance(module, _CONVS):
        _resize_conv(module, new)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = new
        _replace(module, "weight", new)
        _replace(module, "bias", new[:1])
    elif isinstance(module, _BATCH_NORMS):
        module.num_features = new[0]
        for name in ("weight", "bias", "running_mean", "running_var"):
            _replace(module, name, new)
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = new
        for name in ("weight", "bias"):
            _replace(module, name, new)
    else:
        at = 0
        for name, tensor in _loose(module):
            _replace(module, name, new[at : at + tensor.ndim])
            at += tensor.ndim


def _resize_conv(module: nn.Module, new: tuple[int, ...]) -> None:
    assert isinstance(module, _CONVS)
    if _depthwise(module):
        module.groups, new = new[0], (new[0], new[0])
    if new[0] % module.groups or new[1] % module.groups:
        raise ValueError("a width that its groups do not divide")
    module.out_channels, module.in_channels = new
    _replace(module, "weight", (new[0], new[1] // module.groups, *module.weight.shape[2:]))
    _replace(module, "bias", new[:1])


def _replace(module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    old = getattr(module, name)
    if old is None:
        return
    new = torch.zeros(shape, dtype=old.dtype, device=old.device)
    setattr(module, name, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
