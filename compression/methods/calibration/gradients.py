"""Gradients of the loss on calibration images: what weights and outputs matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compression.data.splits import Split, batches
from compression.models.hooks import hooked
from compression.models.parametrize import compressible, materialize

# Small batches, so that the gradients of single images do not cancel in their mean.
_BATCH = 8
_OUTPUT_BATCH = 128


@dataclass(frozen=True)
class WeightGradients:
    """Means over small batches of |w g| and g², each of the weight's shape, for weights w and the
    gradient g of the mean cross-entropy in nats."""

    taylor: Tensor
    fisher: Tensor


def weight_gradients(
    model: nn.Module, split: Split, device: str = "cpu"
) -> dict[str, WeightGradients]:
    """By layer, from the labelled images of a split.

    First-order Taylor: Molchanov et al., 2019; empirical Fisher: Theis et al., 2018.
    """
    plain = materialize(model).eval()
    weights = {name: module.weight for name, module in compressible(plain)}
    sums = {n: [torch.zeros_like(w), torch.zeros_like(w)] for n, w in weights.items()}  # type: ignore[arg-type]
    steps = 0
    with torch.enable_grad():
        for x, y in batches(split, _BATCH):
            loss = F.cross_entropy(plain(x.to(device)), y.to(device))
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)  # type: ignore[arg-type]
            for (name, w), g in zip(weights.items(), gradients, strict=True):
                if g is not None:
                    sums[name][0] += (w.detach() * g).abs()  # type: ignore[operator]
                    sums[name][1] += g.square()
            steps += 1
    return {n: WeightGradients(t / steps, f / steps) for n, (t, f) in sums.items()}


def output_gradients(model: nn.Module, batches: Sequence[Tensor], seed: int) -> dict[str, Tensor]:
    """The diagonal Fisher information of each layer's outputs: [channels] by layer.

    That is the mean over images of g², summed over positions, for the gradient g of the
    cross-entropy with labels drawn from the model's own predictions (Martens, 2020). A layer that
    is not called by itself has none. `batches` of prepared images [n, ...] lie on the device.
    """
    plain = materialize(model).eval()
    sums: dict[str, Tensor] = {}
    generator, count = torch.Generator().manual_seed(seed), 0
    layers = dict(compressible(plain))
    with torch.enable_grad(), hooked(layers, post=partial(_add_squares, sums)):
        for x in (part for batch in batches for part in batch.split(_OUTPUT_BATCH)):
            count += len(x)
            logits = plain(x.detach().requires_grad_())
            chances = logits.detach().softmax(1).cpu()
            drawn = torch.multinomial(chances, 1, generator=generator)[:, 0].to(x.device)
            F.cross_entropy(logits, drawn, reduction="sum").backward()
    return {name: total / count for name, total in sums.items()}


def _add_squares(
    sums: dict[str, Tensor], name: str, module: nn.Module, _: object, output: Tensor
) -> None:
    """Let the gradient of a layer's output add its squares, summed over all but channels."""

    def add(gradient: Tensor) -> None:
        axis = gradient.ndim - 1 if isinstance(module, nn.Linear) else 1
        power = gradient.square().sum([d for d in range(gradient.ndim) if d != axis])
        sums[name] = sums[name] + power if name in sums else power

    output.register_hook(add)
