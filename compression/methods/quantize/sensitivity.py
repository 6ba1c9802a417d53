"""What a change of one layer alone does to a model's outputs, tried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compression.data.splits import PreparedBatches, Split
from compression.errors import InvalidInput
from compression.models.activation_memory import activation_memory
from compression.models.hooks import hooked
from compression.models.parametrize import compressible

IMAGES = 512
_BATCH = 128
_KEPT_BYTES = 2**30

Option = TypeVar("Option")


@torch.no_grad()
def direct_costs(
    model: nn.Module,
    layers: Sequence[str],
    options: Sequence[Option],
    apply: Callable[[nn.Module, str, Option], None],
    split: Split,
    device: str = "cpu",
    report: Callable[[float], None] | None = None,
) -> list[list[float]]:
    """Mean KL divergence, in nats, of the outputs from the unchanged model's: [layer][option].

    Layers called before the changed one are not computed again.

    Args:
        layers: names of compressible layers, one at a time changed by each of `options`.
        apply: `apply(model, layer, option)` changes that layer in place; the layer is a copy, and
            the model is as it was afterwards.
        split: its first `IMAGES` images are used, and no labels.
        report: gets the fraction done.

    Raises:
        InvalidInput: there is no such layer, or the split is empty.
    """
    modules = dict(compressible(model))
    unknown = [name for name in layers if name not in modules]
    if unknown or not len(split):
        raise InvalidInput("layers", unknown, "names of compressible layers, and some images")
    training = {m: m.training for m in model.modules()}
    model.to(device).to(memory_format=torch.channels_last).eval()
    memory = activation_memory(model, split.head(1).prepared(device))
    images = PreparedBatches(split.head(IMAGES), min(_BATCH, memory.at_once), device)
    try:
        replay = _Replay(model, modules)
        expected = [replay.record(x).double().log_softmax(1) for x in images]
        table: list[list[float]] = []
        for i, name in enumerate(layers):
            row: list[float] = []
            for option in options:
                with replaced(model, name):
                    apply(model, name, option)
                    row.append(_divergence(replay, name, images, expected))
                if report:
                    report((i + len(row) / len(options)) / len(layers))
            table.append(row)
        return table
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def replaced(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """Within the context, a copy takes the place of the layer; then the layer itself is back."""
    layer = model.get_submodule(name)
    copied = deepcopy(layer)
    with _swapped(model, {layer: copied}):
        yield copied


@contextmanager
def _swapped(model: nn.Module, others: Mapping[nn.Module, nn.Module]) -> Iterator[None]:
    """Within the context, others take the places of some modules, wherever these are."""
    places = [
        (parent, key, child)
        for parent in model.modules()
        for key, child in parent._modules.items()
        if child is not None and child in others
    ]
    try:
        for parent, key, child in places:
            parent._modules[key] = others[child]
        yield
    finally:
        for parent, key, child in places:
            parent._modules[key] = child


def _divergence(
    replay: _Replay, name: str, images: Sequence[Tensor], expected: Sequence[Tensor]
) -> float:
    total, count = 0.0, 0
    with replay.before(name) as run:
        for i, (x, log_p) in enumerate(zip(images, expected, strict=True)):
            log_q = run(i, x).double().log_softmax(1)
            total += float(F.kl_div(log_q, log_p, reduction="sum", log_target=True))
            count += len(x)
    return max(total / count, 0.0) if total == total else float("inf")


class _Replay:
    """The layers' outputs on every batch, for use wherever a change cannot have reached them."""

    def __init__(self, model: nn.Module, modules: dict[str, nn.Module]) -> None:
        self.model, self.modules = model, modules
        self.order: list[str] = []
        self.kept: dict[str, list[Tensor]] = {name: [] for name in modules}
        self.calls = dict.fromkeys(modules, 0)
        self.batches = self.bytes = self.at = 0

    def record(self, images: Tensor) -> Tensor:
        with hooked(self.modules, post=lambda name, _, __, out: self._keep(name, out)):
            out: Tensor = self.model(images)
        self.batches += 1
        return out

    def _keep(self, name: str, out: Tensor) -> None:
        if name not in self.order:
            self.order.append(name)
        self.calls[name] += 1
        self.bytes += out.nbytes
        if self.bytes <= _KEPT_BYTES:
            self.kept[name].append(out.clone())

    @contextmanager
    def before(self, name: str) -> Iterator[Callable[[int, Tensor], Tensor]]:
        """Runs batch i with what was kept of the layers that are called before `name`."""
        earlier = self.order[: self.order.index(name)] if name in self.order else self.order
        recorded = {
            self.modules[n]: _Playback(self, n)
            for n in earlier
            if self.calls[n] == self.batches and len(self.kept[n]) == self.batches
        }

        def run(i: int, images: Tensor) -> Tensor:
            self.at = i
            out: Tensor = self.model(images)
            return out

        with _swapped(self.model, recorded):
            yield run


class _Playback(nn.Module):
    """Stands for a layer: gives the output that it had on the batch that is being run."""

    def __init__(self, replay: _Replay, name: str) -> None:
        super().__init__()
        self.replay, self.name = replay, name

    def forward(self, *_: object) -> Tensor:
        # a copy, for what follows may work in place
        return self.replay.kept[self.name][self.replay.at].clone()
