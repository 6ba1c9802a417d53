"""One forward pass in which a compressed model walks beside its reference, layer by layer.

The batch holds every calibration image twice. In each layer the first half goes through the
reference's weights and the second through the compressed ones, so that both inputs of a layer are
at hand together, at the moment before it is used: what is changed there is felt by every later
layer. That is sequential calibration (as in GPTQ and SparseGPT, Frantar et al., 2022 and 2023) at
the price of one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compression.methods.calibration.batchnorm import Norm
from compression.models.input_quantizers import on_grid
from compression.models.parametrize import compressible

# Sets a batch norm by its own inputs, its reference and that one's inputs.
Normalise = Callable[[nn.Module, Tensor, nn.Module, Tensor], None]


@dataclass(frozen=True)
class LayerPair:
    """A layer about to be used: its own inputs and those of its reference, same images."""

    name: str
    module: nn.Module
    reference: nn.Module
    inputs: Tensor
    reference_inputs: Tensor


def same_structure(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models have the same layers with weights of the same shapes."""
    shapes = [
        {name: module.weight.shape for name, module in compressible(model)} for model in (a, b)
    ]
    return shapes[0] == shapes[1]


@torch.no_grad()
def paired_forward(
    reference: nn.Module,
    model: nn.Module,
    images: Tensor,
    visit: Callable[[LayerPair], None],
    *,
    batchnorm: bool = False,
    bias: bool = False,
    normalise: Normalise | None = None,
) -> tuple[str, ...]:
    """Call `visit` for every layer in the order of use, before it is used; change what it likes.

    `reference` is another object than `model`, of the same structure; `images` [n, c, h, w] are on
    the models' device. With `batchnorm`, the running statistics of `model` become the reference's,
    moved by as much as the two models' statistics differ on these images: estimated anew, but
    without the noise of few images, so that an unchanged model stays what it is; or, if given,
    `normalise` sets each norm. With `bias`, each layer's mean output error, per channel, is taken
    off its bias where it has one (Nagel et al., 2019).

    Returns:
        The names of compressible layers that are never called by themselves (in attention).
    """
    n, called = len(images), set[str]()
    others = dict(reference.named_modules())
    held: list[Any] = []

    def meet(name: str, module: nn.Module) -> None:
        other = others[name]
        kept: list[Tensor] = []

        def before(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
            if isinstance(module, nn.MultiheadAttention):  # query, key and value
                kept.extend(x[:n] for x in given)
                return tuple(x[n:] for x in given)
            theirs, ours = given[0][:n], given[0][n:]
            kept.append(theirs)
            if isinstance(module, Norm):
                if batchnorm:
                    (normalise or _move_statistics)(module, ours, other, theirs)
            else:
                called.add(name)
                visit(LayerPair(name, module, other, on_grid(module, ours), theirs))
            return (ours, *given[1:])

        def after(_: nn.Module, __: Any, ours: Any) -> Any:
            if isinstance(module, nn.MultiheadAttention):
                theirs = other(*kept, need_weights=False)[0]
                kept.clear()
                return torch.cat([theirs, ours[0]]), None
            theirs = other(kept.pop())
            own = None if isinstance(module, Norm) or not bias else module._parameters.get("bias")
            if own is not None:
                error = _channel_means(theirs - ours, module)
                own.add_(error)
                ours = ours + _shaped(error, ours, module)
            return torch.cat([theirs, ours])

        # Before anything else that waits there: an input quantizer is for the second half only.
        held.append(module.register_forward_pre_hook(before, prepend=True))
        held.append(module.register_forward_hook(after))

    layers = dict(compressible(model))
    whole = {
        k: m for k, m in model.named_modules() if isinstance(m, (*Norm, nn.MultiheadAttention))
    }
    try:
        for name, module in {**layers, **whole}.items():
            meet(name, module)
        model(torch.cat([images, images]))
    finally:
        for hook in held:
            hook.remove()
    return tuple(name for name in layers if name not in called)


def _move_statistics(norm: nn.Module, ours: Tensor, other: nn.Module, theirs: Tensor) -> None:
    """Running statistics from the reference's and what the inputs of both say."""
    assert isinstance(norm, Norm) and isinstance(other, Norm)
    if norm.running_mean is None or norm.running_var is None:
        return
    assert other.running_mean is not None and other.running_var is not None
    axes = [d for d in range(ours.ndim) if d != 1]
    variance, mean = torch.var_mean(ours, axes)
    other_variance, other_mean = torch.var_mean(theirs, axes)
    norm.running_mean.copy_(other.running_mean + mean - other_mean)
    ratio = (variance + norm.eps) / (other_variance + norm.eps)
    norm.running_var.copy_(other.running_var * ratio)


@torch.no_grad()
def visit_layer_inputs(
    model: nn.Module, images: Tensor, visit: Callable[[LayerPair], None]
) -> None:
    """Call `visit` for every layer in the order of use, with its inputs; it is its own reference.

    `images` [n, c, h, w] are on the model's device.
    """
    held = []

    def meet(name: str, layer: nn.Module) -> None:
        def before(module: nn.Module, given: tuple[Any, ...]) -> None:
            visit(LayerPair(name, module, module, on_grid(module, given[0]), given[0]))

        held.append(layer.register_forward_pre_hook(before, prepend=True))

    try:
        for name, layer in compressible(model):
            meet(name, layer)
        model(images)
    finally:
        for hook in held:
            hook.remove()


def _channel_axis(module: nn.Module) -> int:
    return -1 if isinstance(module, nn.Linear) else 1


def _channel_means(outputs: Tensor, module: nn.Module) -> Tensor:
    axis = _channel_axis(module) % outputs.ndim
    return outputs.mean([d for d in range(outputs.ndim) if d != axis])


def _shaped(values: Tensor, outputs: Tensor, module: nn.Module) -> Tensor:
    axis = _channel_axis(module) % outputs.ndim
    return values.view([-1 if d == axis else 1 for d in range(outputs.ndim)])
