"""One forward pass of a compressed model and its reference together, layer by layer.

The batch holds every calibration image twice. In each layer the first half goes through the
reference's weights and the second through the compressed ones, so that both inputs of a layer are
at hand together, at the moment before it is used: what is changed there is felt by every later
layer. That is sequential calibration (as in GPTQ and SparseGPT, Frantar et al., 2022 and 2023) at
the price of one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compression.methods.calibration.batchnorm import Norm
from compression.models.hooks import hooked
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

    Args:
        reference: another object than `model`, of the same structure.
        images: prepared images [n, c, h, w] on the models' device.
        batchnorm: set the running statistics of `model` to the reference's, moved by as much as the
            two models' statistics differ on these images: estimated anew, but without the noise of
            few images, so that an unchanged model stays what it is.
        bias: take each layer's mean output error, per channel, off its bias where it has one
            (Nagel et al., 2019).
        normalise: with `batchnorm`, sets each norm instead.

    Returns:
        The names of compressible layers that are never called by themselves (in attention).
    """
    layers = dict(compressible(model))
    pairs = _Pairs(reference, len(images), visit, bias)
    modules = dict(model.named_modules())
    norms = {name: m for name, m in modules.items() if isinstance(m, Norm)}
    attention = {name: m for name, m in modules.items() if isinstance(m, nn.MultiheadAttention)}
    before_norm = partial(pairs.before_norm, normalise or _move_statistics) if batchnorm else None
    with (
        # before anything else that waits there: an input quantizer is for the second half only
        hooked(layers, pre=pairs.before_layer, post=pairs.after_layer, first=True),
        hooked(norms, pre=before_norm or pairs.split, post=pairs.after, first=True),
        hooked(attention, pre=pairs.split_all, post=pairs.after_attention, first=True),
    ):
        model(torch.cat([images, images]))
    return tuple(name for name in layers if name not in pairs.called)


class _Pairs:
    """What happens around each module. The reference's inputs come first in every batch.

    A module sees its own half of the batch alone; the reference's half goes through its reference,
    and both outputs together go on.
    """

    def __init__(
        self, reference: nn.Module, count: int, visit: Callable[[LayerPair], None], bias: bool
    ) -> None:
        self.references = dict(reference.named_modules())
        self.count, self.visit, self.bias = count, visit, bias
        self.called: set[str] = set()
        self.reference_inputs: dict[str, tuple[Tensor, ...]] = {}

    def split(self, name: str, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Keep the reference's half of the first input for later; give the other half."""
        self.reference_inputs[name] = (inputs[0][: self.count],)
        return (inputs[0][self.count :], *inputs[1:])

    def split_all(self, name: str, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """As `split`, for query, key and value."""
        self.reference_inputs[name] = tuple(x[: self.count] for x in inputs)
        return tuple(x[self.count :] for x in inputs)

    def before_layer(
        self, name: str, module: nn.Module, inputs: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Split, and let the layer be changed before it is used."""
        rest = self.split(name, module, inputs)
        ours, (theirs,) = on_grid(module, rest[0]), self.reference_inputs[name]
        self.called.add(name)
        self.visit(LayerPair(name, module, self.references[name], ours, theirs))
        return rest

    def before_norm(
        self, normalise: Normalise, name: str, module: nn.Module, inputs: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Split, and set the norm by both halves."""
        rest = self.split(name, module, inputs)
        normalise(module, rest[0], self.references[name], *self.reference_inputs[name])
        return rest

    def after(self, name: str, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        """The reference's outputs, then the module's own."""
        return torch.cat([self.references[name](*self.reference_inputs.pop(name)), output])

    def after_attention(
        self, name: str, _: nn.Module, __: tuple[Any, ...], output: tuple[Tensor, Any]
    ) -> tuple[Tensor, None]:
        """As `after`; without the attention weights."""
        inputs = self.reference_inputs.pop(name)
        expected = self.references[name](*inputs, need_weights=False)[0]
        return torch.cat([expected, output[0]]), None

    def after_layer(
        self, name: str, module: nn.Module, _: tuple[Any, ...], output: Tensor
    ) -> Tensor:
        """As `after`, with the mean error taken off the layer's bias if that is asked for."""
        expected = self.references[name](*self.reference_inputs.pop(name))
        bias = module._parameters.get("bias") if self.bias else None
        if bias is not None:
            error = _channel_means(expected - output, module)
            bias.add_(error)
            output = output + _shaped(error, output, module)
        return torch.cat([expected, output])


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

    def before(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        visit(LayerPair(name, module, module, on_grid(module, inputs[0]), inputs[0]))

    with hooked(dict(compressible(model)), pre=before, first=True):
        model(images)


def _channel_axis(module: nn.Module) -> int:
    return -1 if isinstance(module, nn.Linear) else 1


def _channel_means(outputs: Tensor, module: nn.Module) -> Tensor:
    axis = _channel_axis(module) % outputs.ndim
    return outputs.mean([d for d in range(outputs.ndim) if d != axis])


def _shaped(values: Tensor, outputs: Tensor, module: nn.Module) -> Tensor:
    axis = _channel_axis(module) % outputs.ndim
    return values.view([-1 if d == axis else 1 for d in range(outputs.ndim)])
