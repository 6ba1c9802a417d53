"""How a layer's input is put on a grid: a module beside the weight, called by a forward pre-hook.

The grid's tensors are not in the state dict, which therefore keeps the keys of the architecture;
`input_grids` reads them out for whoever writes a file. Copies carry them along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compression.models.parametrize import FakeQuantize, QuantizationGrid, compressible

_NAME = "input_quantizer"


class InputQuantizer(FakeQuantize):
    """`FakeQuantize` for a layer's input; a scale and a zero point that broadcast against it."""

    def __init__(self, grid: QuantizationGrid) -> None:
        super().__init__(grid)
        self.register_buffer("scale", grid.scale, persistent=False)
        self.register_buffer("zero_point", grid.zero_point, persistent=False)


def depthwise(module: nn.Module) -> bool:
    """Whether each input channel has filters of its own, so that it may have its own scale."""
    groups = getattr(module, "groups", 1)
    return bool(groups > 1 and groups == getattr(module, "in_channels", 0))


def _on_grid(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (getattr(module, _NAME)(inputs[0]), *inputs[1:])


def on_grid(module: nn.Module, inputs: Tensor) -> Tensor:
    """A layer's inputs as its weights multiply them: on their grid, if they have one."""
    quantizer = getattr(module, _NAME, None)
    return quantizer(inputs) if isinstance(quantizer, InputQuantizer) else inputs


def input_grids(model: nn.Module) -> dict[str, QuantizationGrid]:
    """The grids of layers' inputs, by the layers' names."""
    quantizers = {name: getattr(module, _NAME, None) for name, module in compressible(model)}
    return {name: q.grid for name, q in quantizers.items() if isinstance(q, InputQuantizer)}


def parametrize_inputs(model: nn.Module, grids: Mapping[str, QuantizationGrid]) -> None:
    """Put the inputs of the named layers on grids, in place; a grid that is there is replaced.

    Raises:
        KeyError: there is no compressible layer of that name.
        ValueError: zero is not on a grid, or a scale is not positive and finite.
    """
    layers = dict(compressible(model))
    for name, grid in grids.items():
        module = layers[name]
        quantizer = InputQuantizer(grid)
        _remove(module)
        module.add_module(_NAME, quantizer.to(module.weight.device))  # type: ignore[arg-type]
        module.register_forward_pre_hook(_on_grid)


def remove_input_quantizers(model: nn.Module) -> None:
    """Let every layer take its input as it comes again, in place."""
    for _, module in compressible(model):
        _remove(module)


def _remove(module: nn.Module) -> None:
    if hasattr(module, _NAME):
        delattr(module, _NAME)
    # By value, not by handle: the hooks of a copy have no handles of their own.
    for key in [k for k, hook in module._forward_pre_hooks.items() if hook is _on_grid]:
        del module._forward_pre_hooks[key]
