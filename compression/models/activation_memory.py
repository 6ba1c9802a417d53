"""How much memory a model's activations take, and so how many images go through it at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compression.models.hooks import hooked, leaves

MOST_AT_ONCE = 250
SMALL_VALUES = 3 * 48 * 48
# What one batch, and what all batches that wait inside a model, may take of memory, in bytes.
BATCH_BYTES = 96 * 2**20
WAITING_BYTES = 384 * 2**20
# Modules whose inputs and outputs their callers have not let go of when the next is called.
_STILL_THERE = 2
# What a batch whose activations are all kept for gradients may take.
GRADIENT_BYTES = 768 * 2**20


@dataclass(frozen=True)
class ActivationMemory:
    """Of one image on its way through a model, in bytes.

    Args:
        widest: input and output together of the module where they are largest.
        total: the outputs of all modules together, which gradients need.
        from_here: for each module by name, `widest` of it and of those that come after it, and of
            those just before it, whose tensors are still there.
    """

    widest: int
    total: int
    from_here: dict[str, int]

    @property
    def at_once(self) -> int:
        """Images to go through the model together, beside a reference's."""
        return _images(BATCH_BYTES, 4 * self.widest)

    @property
    def at_once_for_gradients(self) -> int:
        """Images to go through the model together where gradients are wanted."""
        return _images(GRADIENT_BYTES, self.total)


@torch.no_grad()
def activation_memory(model: nn.Module, example: Tensor) -> ActivationMemory:
    """Measure by sending one image through.

    Args:
        model: left as it is.
        example: one prepared image [1, ...] on the model's device.
    """
    names: list[str] = []
    sizes: list[int] = []
    outputs = 0

    def see(name: str, _: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal outputs
        names.append(name)
        made = _bytes((output,))
        sizes.append(_bytes(inputs) + made)
        outputs += made

    with hooked(leaves(model) or {"": model}, post=see):
        model(example)
    from_here = dict[str, int]()
    for at in reversed(range(len(names))):
        from_here[names[at]] = max(sizes[max(0, at - _STILL_THERE) :])
    return ActivationMemory(max(sizes, default=1), max(1, outputs), from_here)


def images_at_once(model: nn.Module, example: Tensor) -> int:
    """How many images to predict together; small ones are not tried out.

    Args:
        model: left as it is.
        example: one prepared image [1, ...] on the model's device.
    """
    if example.numel() <= SMALL_VALUES:
        return MOST_AT_ONCE
    return activation_memory(model, example).at_once


def room_for(model: nn.Module, batches: Sequence[Tensor], *, copies: int) -> Callable[[str], int]:
    """How many batches may wait inside a model, by the memory that their activations take.

    Args:
        model: that they go through.
        batches: prepared inputs [n, ...] on its device, all but the last of one length.
        copies: how often each image is in its batch.

    Returns:
        What gives the number for the name of the module before which they wait; at least 1.
    """
    if len(batches) < 2:
        return lambda _: 1
    memory, size = activation_memory(model, batches[0][:1]), len(batches[0])

    def room(name: str) -> int:
        each = copies * size * memory.from_here.get(name, memory.widest)
        return max(1, WAITING_BYTES // each)

    return room


def _bytes(values: tuple[object, ...]) -> int:
    return sum(
        _bytes(tuple(v)) if isinstance(v, tuple | list) else v.nbytes
        for v in values
        if isinstance(v, Tensor | tuple | list)
    )


def _images(budget: int, each: int) -> int:
    return min(MOST_AT_ONCE, max(1, budget // each))
