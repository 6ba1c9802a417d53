"""One forward pass of a compressed model and its reference together, layer by layer.

A batch holds every calibration image twice. In each layer the first half goes through the
reference's weights and the second through the compressed ones, and all batches wait for each other
there. So both inputs of a layer are at hand together, for all images, at the moment before it is
used: what is changed there is felt by every later layer. That is sequential calibration (as in GPTQ
and SparseGPT, Frantar et al., 2022 and 2023) at the price of one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from greenlet import getcurrent
from torch import Tensor, nn

from compression.methods.calibration.batchnorm import Norm
from compression.methods.calibration.channel_statistics import (
    ChannelStatistics,
    channel_means,
    pooled_mean,
    pooled_statistics,
    shaped,
)
from compression.methods.calibration.lockstep import Lockstep
from compression.models.activation_memory import room_for
from compression.models.hooks import hooked
from compression.models.input_quantizers import on_grid
from compression.models.parametrize import compressible

# Sets a batch norm by its reference and the statistics of both norms' inputs.
Normalise = Callable[[nn.Module, nn.Module, ChannelStatistics], None]


@dataclass(frozen=True)
class LayerPair:
    """A layer about to be used: its own inputs and those of its reference, in the same batches."""

    name: str
    module: nn.Module
    reference: nn.Module
    inputs: Sequence[Tensor]
    reference_inputs: Sequence[Tensor]


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
    batches: Sequence[Tensor],
    visit: Callable[[LayerPair], None],
    *,
    batchnorm: bool = False,
    bias: bool = False,
    normalise: Normalise | None = None,
) -> tuple[str, ...]:
    """Call `visit` for every layer in the order of use, before it is used; change what it likes.

    Args:
        reference: another object than `model`, of the same structure.
        batches: prepared images [n, ...] on the models' device. Where activations are large, the
            first of them are enough; the others join where there is room.
        visit: gets each layer with the inputs of all batches that are there.
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
    modules = dict(model.named_modules())
    norms = {name: m for name, m in modules.items() if isinstance(m, Norm)}
    attention = {name: m for name, m in modules.items() if isinstance(m, nn.MultiheadAttention)}
    room = room_for(reference, batches, copies=2)
    pairs = _Pairs(reference, model, visit, normalise or _move_statistics)
    lockstep = Lockstep(
        lambda images: model(torch.cat([images, images])),
        pairs.gather,
        lambda point: room(_module_of(point)),
    )
    pairs.lockstep = lockstep
    with (
        # before anything else that waits there: an input quantizer is for the second half only
        hooked(layers, pre=pairs.before_layer, post=pairs.after_layer(bias), first=True),
        hooked(norms, pre=pairs.before_norm if batchnorm else pairs.split, post=pairs.after,
               first=True),
        hooked(attention, pre=pairs.split_all, post=pairs.after_attention, first=True),
    ):  # fmt: skip
        lockstep.go(batches)
    return tuple(name for name in layers if name not in pairs.called)


_INPUTS, _NORM, _OUTPUTS = "inputs of ", "norm ", "outputs of "


def _module_of(point: str) -> str:
    for kind in (_INPUTS, _NORM, _OUTPUTS):
        point = point.removeprefix(kind)
    return point


class _Pairs:
    """What happens around each module. The reference's inputs come first in every batch.

    A module sees its own half of the batch alone; the reference's half goes through its reference,
    and both outputs together go on.
    """

    lockstep: Lockstep[tuple[Tensor, Tensor]]

    def __init__(
        self,
        reference: nn.Module,
        model: nn.Module,
        visit: Callable[[LayerPair], None],
        normalise: Normalise,
    ) -> None:
        self.references, self.modules = dict(reference.named_modules()), dict(model.named_modules())
        self.visit, self.normalise = visit, normalise
        self.called: set[str] = set()
        # by the batch that is under way, and the module
        self.reference_inputs: dict[tuple[object, str], tuple[Tensor, ...]] = {}

    # Around a module, for one batch

    def split(self, name: str, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Keep the reference's half of the first input for later; give the other half."""
        theirs, ours = inputs[0].chunk(2)
        self.reference_inputs[getcurrent(), name] = (theirs,)
        return (ours, *inputs[1:])

    def split_all(self, name: str, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """As `split`, for query, key and value."""
        halves = [x.chunk(2) for x in inputs]
        self.reference_inputs[getcurrent(), name] = tuple(theirs for theirs, _ in halves)
        return tuple(ours for _, ours in halves)

    def before_layer(
        self, name: str, module: nn.Module, inputs: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """Split, and let the layer be changed before it is used."""
        rest = self.split(name, module, inputs)
        (theirs,) = self.reference_inputs[getcurrent(), name]
        self.lockstep.meet(_INPUTS + name, (on_grid(module, rest[0]), theirs))
        return rest

    def before_norm(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Split, and let the norm be set by both halves."""
        rest = self.split(name, module, inputs)
        (theirs,) = self.reference_inputs[getcurrent(), name]
        self.lockstep.meet(_NORM + name, (rest[0], theirs))
        return rest

    def expected(self, name: str, **options: Any) -> Any:
        """What the reference makes of its half."""
        return self.references[name](*self.reference_inputs.pop((getcurrent(), name)), **options)

    def after(self, name: str, _: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        """The reference's outputs, then the module's own."""
        return torch.cat([self.expected(name), output])

    def after_attention(
        self, name: str, _: nn.Module, __: tuple[Any, ...], output: tuple[Tensor, Any]
    ) -> tuple[Tensor, None]:
        """As `after`; without the attention weights."""
        return torch.cat([self.expected(name, need_weights=False)[0], output[0]]), None

    def after_layer(self, bias: bool) -> Callable[..., Tensor]:
        """As `after`; with `bias`, the mean error is taken off the layer's bias before."""

        def after(name: str, module: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor:
            expected = self.expected(name)
            if bias and module._parameters.get("bias") is not None:
                error = self.lockstep.meet(_OUTPUTS + name, (output, expected))
                if error is not None:
                    output = output + shaped(error, output, module)
            return torch.cat([expected, output])

        return after

    # At a meeting point, for all batches

    def gather(self, point: str, halves: list[tuple[Tensor, Tensor]]) -> Tensor | None:
        """Have a layer or a norm changed, or set a bias and give what was added to it."""
        name = _module_of(point)
        module, reference = self.modules[name], self.references[name]
        ours, theirs = [h[0] for h in halves], [h[1] for h in halves]
        if point.startswith(_INPUTS):
            self.called.add(name)
            self.visit(LayerPair(name, module, reference, ours, theirs))
            return None
        if point.startswith(_NORM):
            self.normalise(module, reference, pooled_statistics(ours, theirs))
            return None
        errors = [channel_means(b - a, module) for a, b in halves]
        error = pooled_mean(errors, [len(a) for a in ours])
        module._parameters["bias"].add_(error)
        return error


def _move_statistics(norm: nn.Module, other: nn.Module, inputs: ChannelStatistics) -> None:
    """Running statistics from the reference's and what the inputs of both say."""
    assert isinstance(norm, Norm) and isinstance(other, Norm)
    if norm.running_mean is None or norm.running_var is None:
        return
    assert other.running_mean is not None and other.running_var is not None
    norm.running_mean.copy_(other.running_mean + inputs.mean - inputs.other_mean)
    ratio = (inputs.variance + norm.eps) / (inputs.other_variance + norm.eps)
    norm.running_var.copy_(other.running_var * ratio)


@torch.no_grad()
def visit_layer_inputs(
    model: nn.Module, batches: Sequence[Tensor], visit: Callable[[LayerPair], None]
) -> None:
    """Call `visit` for every layer in the order of use, with its inputs; it is its own reference.

    `batches` of prepared images [n, ...] are on the model's device.
    """
    layers = dict(compressible(model))

    def gather(name: str, inputs: list[tuple[Tensor, Tensor]]) -> None:
        module = layers[name]
        visit(LayerPair(name, module, module, [i[0] for i in inputs], [i[1] for i in inputs]))

    lockstep: Lockstep[tuple[Tensor, Tensor]] = Lockstep(
        model, gather, room_for(model, batches, copies=1)
    )

    def before(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        lockstep.meet(name, (on_grid(module, inputs[0]), inputs[0]))

    with hooked(layers, pre=before, first=True):
        lockstep.go(batches)
