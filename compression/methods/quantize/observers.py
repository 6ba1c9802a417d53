"""Layers' inputs on calibration images, and the grids chosen for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from compression.errors import CompressionError, InvalidInput
from compression.methods.quantize.activation_ranges import (
    ACTIVATION_CLIPPINGS,
    BINS,
    CHANNEL_BINS,
    Histogram,
)
from compression.methods.quantize.weight_ranges import grid_from_range
from compression.models.hooks import hooked
from compression.models.input_quantizers import (
    depthwise,
    input_grids,
    parametrize_inputs,
    remove_input_quantizers,
)
from compression.models.parametrize import QuantizationGrid, compressible
from compression.runs.format import listed

GRANULARITIES = ("tensor", "channel")
LEAST_BITS, MOST_BITS = 4, 8
# A histogram of more values of one image would be no other.
VALUES_PER_IMAGE = 131_072


@torch.no_grad()
def calibrate_inputs(
    model: nn.Module,
    batches: Sequence[Tensor],
    bits: int,
    clipping: str,
    granularity: str = "tensor",
    device: str = "cpu",
) -> dict[str, QuantizationGrid]:
    """Unsigned grids of `bits` bits for the layers' inputs, by name; the model is left as it was.

    Layers get the inputs that they would have without input grids; weights stay masked and on
    their grids. A layer that is never called, such as the projection inside
    `nn.MultiheadAttention`, gets none: see `uncalled`.

    Args:
        batches: prepared, float32 [n, ...], gone through twice.
        bits: 4 to 8.
        clipping: how the range is chosen, one of `ACTIVATION_CLIPPINGS`.
        granularity: `channel` gives depthwise convolutions a scale per channel; all other layers,
            and all with `tensor`, have one.

    Raises:
        InvalidInput: bits, clipping or granularity out of range, or no images.
        CompressionError: a layer's input is not finite.
    """
    _check(bits, clipping, granularity)
    if not batches:
        raise InvalidInput("images", 0, "at least one batch to calibrate on")
    layers = dict(compressible(model))
    statistics = {
        n: _InputStatistics(granularity == "channel" and depthwise(m)) for n, m in layers.items()
    }
    grids, training = input_grids(model), {m: m.training for m in model.modules()}
    remove_input_quantizers(model)
    try:
        model.to(device).eval()
        _watch(model, layers, batches, device, lambda name, x: statistics[name].stretch(x))
        _refuse_infinite(statistics)
        if clipping != "minmax":
            _watch(model, layers, batches, device, lambda name, x: statistics[name].count(x))
    finally:
        parametrize_inputs(model, grids)
        for module, mode in training.items():
            module.training = mode
    return {n: s.grid(bits, clipping) for n, s in statistics.items() if s.shape}


def uncalled(model: nn.Module, grids: Iterable[str]) -> str | None:
    """A sentence that names the layers whose input has no grid, if there are any."""
    with_grid = set(grids)
    names = [name for name, _ in compressible(model) if name not in with_grid]
    if not names:
        return None
    return f"Activations stay float32 where a layer is used without being called: {listed(names)}."


def _check(bits: int, clipping: str, granularity: str) -> None:
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise InvalidInput("activation_bits", bits, f"{LEAST_BITS} to {MOST_BITS}")
    if clipping not in ACTIVATION_CLIPPINGS:
        raise InvalidInput("activation_clipping", clipping, ", ".join(ACTIVATION_CLIPPINGS))
    if granularity not in GRANULARITIES:
        raise InvalidInput("activation_granularity", granularity, ", ".join(GRANULARITIES))


def _watch(
    model: nn.Module,
    layers: dict[str, nn.Module],
    batches: Sequence[Tensor],
    device: str,
    see: Callable[[str, Tensor], None],
) -> None:
    with hooked(layers, pre=lambda name, _, inputs: see(name, inputs[0])):
        for batch in batches:
            model(batch.to(device))


def _refuse_infinite(statistics: dict[str, _InputStatistics]) -> None:
    for name, one in statistics.items():
        if not bool(torch.isfinite(one.least).all() and torch.isfinite(one.most).all()):
            raise CompressionError(
                f"layer {name}: its input on the calibration images is not finite, so it has no "
                f"range to quantize; compress the weights less"
            )


def _spacing(per_image: int) -> int:
    """Every how manyeth value is counted; odd, so that it does not keep to columns of an image."""
    every = max(1, per_image // VALUES_PER_IMAGE)
    return every + 1 - every % 2


class _InputStatistics:
    """Of one layer's inputs: first the ends of each group, then the histograms between."""

    def __init__(self, by_channel: bool) -> None:
        self.by_channel = by_channel
        self.bins = CHANNEL_BINS if by_channel else BINS
        self.shape: list[int] = []
        self.least = self.most = self.counts = self.zeros = torch.empty(0)

    def values(self, given: Tensor) -> Tensor:
        """One row for each group."""
        if not self.by_channel:
            self.shape = [1] * given.ndim
            return given.detach().float().reshape(1, -1)
        self.shape = [1, given.shape[1], *[1] * (given.ndim - 2)]
        return given.detach().float().transpose(0, 1).flatten(1)

    def stretch(self, given: Tensor) -> None:
        if self.by_channel:
            least, most = self.values(given).aminmax(dim=1)
        else:
            self.shape = [1] * given.ndim
            least, most = (v.detach().float().view(1) for v in given.aminmax())
        least, most = least.clamp(max=0.0), most.clamp(min=0.0)
        if self.least.numel():
            least, most = torch.minimum(least, self.least), torch.maximum(most, self.most)
        self.least, self.most = least, most

    def count(self, given: Tensor) -> None:
        values, groups = self.values(given), len(self.least)
        values = values[:, :: _spacing(values.numel() // len(given))]
        if not self.counts.numel():
            self.counts = values.new_zeros(groups, self.bins, dtype=torch.float64)
            self.zeros = values.new_zeros(groups, dtype=torch.float64)
        per_unit = self.bins / (self.most - self.least).clamp(min=1e-30).unsqueeze(1)
        at = ((values - self.least.unsqueeze(1)) * per_unit).int().clamp_(0, self.bins - 1)
        at += self.bins * torch.arange(groups, device=at.device, dtype=at.dtype).unsqueeze(1)
        empty = values == 0
        self.zeros += empty.sum(1)
        # zeros are counted into a bin beyond the last
        at = torch.where(empty, groups * self.bins, at).flatten()
        self.counts += torch.bincount(at, minlength=groups * self.bins + 1)[:-1].view(
            groups, self.bins
        )

    def grid(self, bits: int, clipping: str) -> QuantizationGrid:
        histogram = Histogram(self.counts, self.zeros, self.least, self.most)
        low, high = ACTIVATION_CLIPPINGS[clipping](histogram, bits)
        return grid_from_range(low.view(self.shape), high.view(self.shape), bits, symmetric=False)
