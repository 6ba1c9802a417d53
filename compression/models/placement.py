"""Run a model on a device and in a layout without moving or changing its owner's copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from compression.errors import InvalidInput

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(device: str) -> str:
    """`cpu` or `cuda`; `auto` takes CUDA when there is one.

    Raises:
        InvalidInput: an unknown device, or CUDA where there is none.
    """
    if device not in DEVICES:
        raise InvalidInput("device", device, ", ".join(DEVICES))
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("device", device, "auto or cpu, for PyTorch finds no CUDA GPU here")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def placed(model: nn.Module, device: str, *, channels_last: bool = True) -> nn.Module:
    """The model itself if it lies on the device already, else a copy that does.

    Args:
        model: never moved.
        device: `cpu` or `cuda`.
        channels_last: whether 4-d tensors have to lie in that layout, too. On a CPU it is faster
            than the default one for every bundled model, and it decides the order of sums.
    """
    tensors = chain(model.parameters(), model.buffers())
    if all(_lies(tensor, device, channels_last) for tensor in tensors):
        return model
    moved: nn.Module = copy.deepcopy(model).to(device)
    return moved.to(memory_format=torch.channels_last) if channels_last else moved


@torch.no_grad()
def _lies(tensor: Tensor, device: str, channels_last: bool) -> bool:
    # what `to` has nothing to do for, it gives back itself
    if channels_last and tensor.ndim == 4:
        return tensor.to(device, memory_format=torch.channels_last) is tensor
    return tensor.to(device) is tensor


def evaluated(model: nn.Module) -> nn.Module:
    """The model itself if it is in evaluation mode, else a copy that is."""
    if not any(module.training for module in model.modules()):
        return model
    copied: nn.Module = copy.deepcopy(model)
    return copied.eval()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode; every module is back in its own mode afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield model
    finally:
        for module in training:
            module.training = True
