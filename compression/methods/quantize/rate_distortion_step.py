"""Rate-distortion quantization: every layer's codes, batch norms and biases take so many bits that
one more would lower the loss as much in each of them.

A layer's output error counts by the Fisher information of its outputs, and a bit by the same
price everywhere. So layers that matter little become coarse, or zero, by themselves.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from compression.errors import CompressionError, InvalidInput
from compression.measure.accuracy import predict
from compression.methods.calibration.accuracy_search import Amounts, largest_amount_within_drop
from compression.methods.calibration.batchnorm import Norm
from compression.methods.calibration.channel_statistics import ChannelStatistics
from compression.methods.calibration.gradients import output_gradients
from compression.methods.calibration.paired_forward import LayerPair, paired_forward
from compression.methods.calibration.second_moments import (
    groups_of,
    measurable,
    measure_moments,
    weight_rows,
)
from compression.methods.calibration.step_context import StepContext
from compression.methods.quantize.equalization import normed_layers
from compression.methods.quantize.rate_distortion import STEP, minimize_rate_distortion, rate_grid
from compression.methods.quantize.weight_ranges import mse
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    mask_of,
    materialize,
    parametrize_weight,
    put_weight,
    remove_parametrization,
    weight_of,
)
from compression.recipe.steps import Quantize
from compression.runs.format import listed

FISHER_IMAGES = 1000
# Rates are in thousandths of a nat per image and kilobyte.
_BITS = 8e6
# No output counts less than this share of its layer's mean.
_LEAST_FISHER = 0.01
# How far a batch norm's factor is pulled from equal variance (0) to least squares (1).
_SHRINK = 0.5
_FACTOR_BITS = 5
# Steps of batch norms' shifts, per size of the outputs.
_SHIFT = 1 / 16

# Rates that are searched: from the least up by so many octaves, in so small parts of one.
_LEAST_RATE = 0.01
_OCTAVES = 14.0
_RESOLUTION = 0.125

OutputFisher = dict[str, Tensor]


def _setting(step: Quantize) -> tuple[str, object]:
    """What needs images, and its value."""
    if step.keep_accuracy is not None:
        return "keep_accuracy", step.keep_accuracy
    return "rd_lambda", step.rd_lambda


def output_fisher(step: Quantize, context: StepContext) -> OutputFisher:
    """Diagonal Fisher information of the layers' outputs, by name: [outputs] (Martens, 2020).

    An output's squared error times half of it is what the loss grows by, in nats per image.
    """
    images = context.images_for_gradients(*_setting(step), FISHER_IMAGES)
    return output_gradients(context.reference, images, context.seed)


@torch.no_grad()
def rate_distortion_quantize(
    model: nn.Module,
    step: Quantize,
    rate: float,
    context: StepContext,
    fisher: OutputFisher,
    report: Callable[[float], None],
) -> tuple[str, ...]:
    """Put the weights of `model`, in place, on grids; batch norms keep a factor and a shift alone.

    Args:
        rate: lambda, what a kilobyte is worth: thousandths of a nat per image.
        fisher: of `output_fisher`, by the layers' names.
        report: gets the fraction of layers done.

    Returns:
        Notes for a person.
    """
    free = _free_rows(model)
    layers, done = len(dict(compressible(model))), 0
    prices: dict[nn.Module, Tensor] = {}

    def visit(pair: LayerPair) -> None:
        nonlocal done
        done += 1
        report(done / layers)
        if measurable(pair.module):
            price = _prices(pair.module, rate / _BITS, fisher.get(pair.name))
            prices[pair.module] = price
            _round(pair, step.bits, price, pair.module in free)

    missed = paired_forward(
        context.reference,
        model,
        context.images(*_setting(step)),
        visit,
        batchnorm=True,
        bias=True,
        normalise=_normalise,
    )
    for module, price in prices.items():
        if isinstance(module.bias, Tensor):
            module.bias.copy_(on_steps(module.bias, (STEP * price.flatten()).sqrt()))
    for name in missed:
        module = model.get_submodule(name)
        parametrize_weight(module, None, mse(weight_of(module), step.bits, True, True))
    return nearest_notes(missed)


def nearest_notes(missed: Sequence[str], unmeasured: Sequence[str] = ()) -> tuple[str, ...]:
    """Notes that name the layers, if any, whose inputs the rounding cannot take into account:
    because they are never called by themselves, or are of a kind without second moments."""
    notes: tuple[str, ...] = ()
    if missed:
        notes += (f"Rounded to nearest, because they are part of attention: {listed(missed)}.",)
    if unmeasured:
        kinds = "neither linear nor 2-d convolutions"
        notes += (f"Rounded to nearest, because they are {kinds}: {listed(unmeasured)}.",)
    return notes


def smallest_that_keeps(
    model: nn.Module, step: Quantize, share: float, context: StepContext
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model at the highest rate, by bisection, that keeps a share of accuracy on search images.

    Raises:
        InvalidInput: even the lowest rate loses more.
    """
    fisher, notes = output_fisher(step, context), dict[float, tuple[str, ...]]()
    images = context.dataset("keep_accuracy", share).search

    def attempt(amount: float) -> nn.Module:
        candidate = copy.deepcopy(model)
        notes[amount] = rate_distortion_quantize(
            candidate, step, _lambda(amount), context, fisher, _quiet
        )
        return candidate

    predictions = predict(materialize(context.original), images, context.device)
    accuracy = 100 * float(predictions.right.float().mean())
    try:
        amount, smallest, sentence = largest_amount_within_drop(
            attempt,
            context.original,
            images,
            (1 - share) * accuracy,
            context.device,
            context.report,
            Amounts(_OCTAVES, _RESOLUTION, lambda x: f"{_lambda(x):.3g} mnat/kB"),
            use_lower_bound=step.margin == "interval",
        )
    except InvalidInput:
        verb, by = "loses", ""
        if step.margin == "interval":
            verb, by = "may lose", f" (95 % interval over {len(images):,} images), or margin none"
        allowed = f"less: even lambda = {_lambda(0):.3g} mnat/kB {verb} more{by}"
        raise InvalidInput("keep_accuracy", share, allowed) from None
    return smallest, (sentence, *notes[amount])


def _lambda(amount: float) -> float:
    return float(f"{_LEAST_RATE * 2**amount:.4g}")


def _quiet(_: float) -> None:
    pass


def _prices(module: nn.Module, price: float, fisher: Tensor | None) -> Tensor:
    """The squared error of each row that a bit is worth: [g, o, 1]."""
    weight = weight_of(module)
    counts = torch.ones(len(weight), device=weight.device) if fisher is None else fisher
    counts = counts.view(groups_of(module), -1, 1)
    # the loss grows by half the Fisher information times the squared error
    return 2 * price / counts.clamp_min(_LEAST_FISHER * float(counts.mean()) + 1e-20)


def _free_rows(model: nn.Module) -> set[nn.Module]:
    """Layers of which a batch norm takes up any scale of the rows."""
    try:
        return {layer for layer, _ in normed_layers(model) if layer.bias is None}
    except CompressionError:
        return set()


def _round(pair: LayerPair, bits: int, price: Tensor, free: bool) -> None:
    module, groups = pair.module, groups_of(pair.module)
    moments = measure_moments(module, pair.inputs, pair.reference_inputs)
    weight, mask = weight_of(module), mask_of(module)
    keep = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask
    target = weight_rows(weight_of(pair.reference), groups)
    grid = rate_grid(target, moments, price, bits)
    rows = minimize_rate_distortion(target, weight_rows(keep, groups), grid, moments, price)
    grid = _narrow(rows, grid)
    if free:
        rows = rows / grid.scale
        one = grid.scale[:1, :1]
        grid = QuantizationGrid(torch.ones_like(one), grid.zero_point[:1, :1], grid.low, grid.high)
    remove_parametrization(module)
    put_weight(module, rows.reshape(weight.shape))
    parametrize_weight(module, mask, _for_weight(grid, weight))


def _narrow(weight: Tensor, grid: QuantizationGrid) -> QuantizationGrid:
    """The grid without the codes that no weight has."""
    high = max(1, int(grid.encode(weight).abs().max()))
    return QuantizationGrid(grid.scale, grid.zero_point, -high, high)


def _for_weight(grid: QuantizationGrid, weight: Tensor) -> QuantizationGrid:
    """A grid of rows [g, o, 1] for the weight [g * o, ...]."""
    shape = (-1, *[1] * (weight.ndim - 1))
    scale, zero = (x.to(weight.device).reshape(shape) for x in (grid.scale, grid.zero_point))
    return QuantizationGrid(scale, zero, grid.low, grid.high)


def _normalise(norm: nn.Module, other: nn.Module, inputs: ChannelStatistics) -> None:
    """Make of a batch norm a factor and a shift of few bits, with statistics 0 and 1.

    Its outputs get the reference's mean; their size lies between the reference's and that of least
    squares, which is smaller the less of the reference's is left.
    """
    assert isinstance(norm, Norm) and isinstance(other, Norm)
    if norm.running_mean is None or norm.running_var is None:
        return
    assert other.running_mean is not None and other.running_var is not None
    mean, variance = inputs.mean, inputs.variance
    other_mean, other_variance = inputs.other_mean, inputs.other_variance
    likeness = (inputs.covariance / (variance * other_variance).clamp_min(1e-30).sqrt()).clamp(0, 1)
    alive = variance > 1e-10 * variance.max()
    size = (other_variance / variance.clamp_min(1e-30)).sqrt() * likeness**_SHRINK
    gain = other.weight if norm.affine else torch.ones_like(mean)
    bias = other.bias if norm.affine else torch.zeros_like(mean)
    root = (other.running_var + other.eps).sqrt()
    factor = few_digits(torch.where(alive, gain * size / root, 0.0) * math.sqrt(1 + norm.eps))
    shift = bias + gain * (other_mean - other.running_mean) / root
    shift -= factor * mean / math.sqrt(1 + norm.eps)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0)
    norm.weight.copy_(factor)
    norm.bias.copy_(on_steps(shift, _SHIFT * gain.abs().median()))


def few_digits(values: Tensor, digits: int = _FACTOR_BITS) -> Tensor:
    """Values with so many binary digits after the first, as half precision has them."""
    mantissa, exponent = torch.frexp(values)
    fine = 2.0 ** (digits + 1)
    return torch.ldexp((mantissa * fine).round() / fine, exponent).half().float()


def on_steps(values: Tensor, step: Tensor) -> Tensor:
    """Multiples of the power of 2 next to `step`, as half precision has them."""
    fine = torch.exp2(step.clamp_min(2.0**-14).log2().round())
    return ((values / fine).round() * fine).half().float()
