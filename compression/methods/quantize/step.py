"""The quantization step: equalization, bits per layer, ranges, rounding, repair."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from compression.errors import CompressionError, InvalidInput
from compression.methods.calibration.batchnorm import estimate_batchnorm
from compression.methods.calibration.budget_allocation import allocate
from compression.methods.calibration.gradients import output_gradients
from compression.methods.calibration.least_squares import refit
from compression.methods.calibration.paired_forward import (
    LayerPair,
    paired_forward,
    visit_layer_inputs,
)
from compression.methods.calibration.second_moments import (
    groups_of,
    measurable,
    measure_moments,
    output_error,
    weight_rows,
)
from compression.methods.calibration.step_context import StepContext
from compression.methods.quantize.block_reconstruction import reconstruct
from compression.methods.quantize.equalization import equalize
from compression.methods.quantize.gptq import gptq
from compression.methods.quantize.observers import calibrate_inputs, uncalled
from compression.methods.quantize.rate_distortion_step import (
    nearest_notes,
    output_fisher,
    rate_distortion_quantize,
    smallest_that_keeps,
)
from compression.methods.quantize.sensitivity import direct_costs
from compression.methods.quantize.weight_ranges import CLIPPINGS
from compression.models.input_quantizers import parametrize_inputs
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    mask_of,
    parametrize_weight,
    put_weight,
    remove_parametrization,
    stored_weight,
    weight_of,
)
from compression.models.requirements import first_setting_needing_images
from compression.recipe.steps import Quantize

ACTIVATION_IMAGES = 500
FISHER_IMAGES = 500
LEAST_BITS = 2
_ROUNDING_SHARE = 0.2

Bits = dict[str, int]
Notes = tuple[str, ...]


def quantize(model: nn.Module, step: Quantize, context: StepContext) -> tuple[nn.Module, Notes]:
    """Put the weights of `model`, in place, and if the step says so its activations, on grids.

    Returns:
        The quantized model (another one where the step searches) and notes for a person.

    Raises:
        InvalidInput: the model, its data or an earlier step does not allow a setting.
        CompressionError: values inside are not finite.
    """
    if setting := first_setting_needing_images(step):
        context.dataset(*setting)
    before = {name: weight_of(m).clone() for name, m in compressible(model)}
    notes = _equalized(model, step)
    if step.equalization != "none":
        # the original's layers are scaled otherwise
        context = replace(context, reference=copy.deepcopy(model))
    if step.rate_distortion:
        model, more = _rate_distortion(model, step, context)
        return model, notes + more
    bits = _choose_bits(model, step, context)
    if step.rounding == "nearest":
        _round_all(model, step, bits)
        # ranges of activations are those of a repaired model; it is repaired for good below
        if "batchnorm" in step.repair and step.activation_bits is not None:
            estimate_batchnorm(model, context.images("repair", "batchnorm"))
    if step.activation_bits is not None:
        notes += _quantize_activations(model, step, context)
    if step.rounding != "nearest" or step.repair:
        notes += _round_in_order(model, step, bits, context)
    if step.rounding == "reconstruct":
        notes += _reconstruct(model, step, context)
    if step.other_dtype == "float16":
        _halve_other_tensors(model)
    if all(torch.equal(before[n], weight_of(m)) for n, m in compressible(model)):
        notes += ("Quantization changed nothing: the weights were on the grid.",)
    return model, notes


def _rate_distortion(
    model: nn.Module, step: Quantize, context: StepContext
) -> tuple[nn.Module, Notes]:
    notes = _quantize_activations(model, step, context) if step.activation_bits is not None else ()
    if step.keep_accuracy is not None:
        model, more = smallest_that_keeps(model, step, step.keep_accuracy, context)
    else:
        fisher = output_fisher(step, context)
        more = rate_distortion_quantize(
            model, step, step.rd_lambda, context, fisher, context.report
        )
    if step.other_dtype == "float16":
        _halve_other_tensors(model)
    return model, notes + more


def _reconstruct(model: nn.Module, step: Quantize, context: StepContext) -> Notes:
    images = context.images("rounding", step.rounding)
    helped = reconstruct(
        model,
        context.reference,
        images.split,
        device=context.device,
        at_once=context.activations.at_once_for_gradients,
        seed=context.seed,
        report=lambda f: context.report(_ROUNDING_SHARE + (1 - _ROUNDING_SHARE) * f),
    )
    if "batchnorm" in step.repair:
        estimate_batchnorm(model, images)
    if helped:
        return ()
    return ("Reconstruction brought no block nearer to the original's; GPTQ's rounding was kept.",)


@torch.no_grad()
def _halve_other_tensors(model: nn.Module) -> None:
    """Round all numbers but the quantized weights to half precision; what that would make nothing
    of, or too large, stays."""
    weights = {id(stored_weight(m)) for _, m in compressible(model)}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype == torch.float32 and id(tensor) not in weights:
            half = tensor.half().float()
            fine = half.isfinite() & ((half != 0) | (tensor == 0))
            tensor.copy_(torch.where(fine, half, tensor))


def _equalized(model: nn.Module, step: Quantize) -> Notes:
    if step.equalization == "none":
        return ()
    try:
        changed = equalize(model, rows=step.granularity == "tensor")
    except CompressionError as error:
        return (f"Not equalized: {error}",)
    return () if changed else ("Equalization changed nothing: no two layers can share a scale.",)


def _choose_bits(model: nn.Module, step: Quantize, context: StepContext) -> Bits:
    names = [name for name, _ in compressible(model)]
    bits = dict.fromkeys(names, step.bits)
    edges = {names[0], names[-1]} if step.edge_bits is not None else set()
    bits |= dict.fromkeys(edges, step.edge_bits or step.bits)
    if step.average_bits is None:
        return bits
    options = [[bits[n]] if n in edges else list(range(LEAST_BITS, step.bits + 1)) for n in names]
    counts = {name: weight_of(m).numel() for name, m in compressible(model)}
    sizes = [[b * counts[n] for b in choices] for n, choices in zip(names, options, strict=True)]
    budget = step.average_bits * sum(counts.values())
    if (least := sum(map(min, sizes))) > budget:
        fewest = math.ceil(1000 * least / sum(counts.values())) / 1000
        allowed = f"at least {fewest:g} with first and last layer in {step.edge_bits} bits"
        raise InvalidInput("average_bits", step.average_bits, allowed)
    table = _direct(model, step, context) if step.sensitivity == "direct" else None
    table = table or _fisher(model, step, context)
    costs = [[table[n][b] for b in c] for n, c in zip(names, options, strict=True)]
    chosen = allocate(costs, sizes, budget)
    return {n: c[o] for n, c, o in zip(names, options, chosen, strict=True)}


Table = dict[str, dict[int, float]]


def _direct(model: nn.Module, step: Quantize, context: StepContext) -> Table:
    """Divergence of the outputs when one layer alone has so many bits."""
    names, options = [name for name, _ in compressible(model)], list(range(LEAST_BITS, 9))

    def apply(model: nn.Module, name: str, bits: int) -> None:
        module = dict(compressible(model))[name]
        put_weight(module, _nearest(weight_of(module), step, bits))

    split = context.dataset("average_bits", step.average_bits).calibration
    costs = direct_costs(
        model, names, options, apply, split, context.device, lambda f: context.report(0.3 * f)
    )
    return {n: dict(zip(options, row, strict=True)) for n, row in zip(names, costs, strict=True)}


def _fisher(model: nn.Module, step: Quantize, context: StepContext) -> Table:
    """Sum over outputs of g² (Y - Y_q)² when one layer alone has so many bits."""
    asked = ("average_bits", step.average_bits, FISHER_IMAGES)
    fisher_of = output_gradients(model, context.images_for_gradients(*asked), context.seed)
    table: Table = {}

    def measure(pair: LayerPair) -> None:
        module, weight = pair.module, weight_of(pair.module)
        groups = groups_of(module)
        moments = measure_moments(module, pair.inputs)
        fisher = fisher_of[pair.name].view(groups, -1)
        table[pair.name] = {}
        for bits in range(LEAST_BITS, 9):
            change = weight_rows(_nearest(weight, step, bits) - weight, groups)[..., moments.seen]
            error = output_error(change, moments.gram) * fisher
            table[pair.name][bits] = float(error.sum())

    visit_layer_inputs(model, context.images(*asked), measure)
    for name, module in compressible(model):  # inside attention: as its weights' own error
        if name not in table:
            weight = weight_of(module)
            errors = {b: _nearest(weight, step, b) - weight for b in range(LEAST_BITS, 9)}
            table[name] = {b: float(e.square().sum()) for b, e in errors.items()}
    return table


def _nearest(weight: Tensor, step: Quantize, bits: int) -> Tensor:
    grid = _grid(weight, step, bits)
    return grid.decode(grid.encode(weight))


def _grid(weight: Tensor, step: Quantize, bits: int) -> QuantizationGrid:
    clip = CLIPPINGS[step.clipping]
    return clip(weight, bits, step.scheme == "symmetric", step.granularity == "channel")


def _round_all(model: nn.Module, step: Quantize, bits: Bits) -> None:
    for name, module in compressible(model):
        parametrize_weight(module, None, _grid(weight_of(module), step, bits[name]))


def _quantize_activations(model: nn.Module, step: Quantize, context: StepContext) -> Notes:
    grids = calibrate_inputs(
        model,
        context.images("activation_bits", step.activation_bits, ACTIVATION_IMAGES),
        step.activation_bits or 8,
        step.activation_clipping,
        step.activation_granularity,
        context.device,
    )
    parametrize_inputs(model, grids)
    note = uncalled(model, grids)
    return (note,) if note else ()


def _round_in_order(model: nn.Module, step: Quantize, bits: Bits, context: StepContext) -> Notes:
    share, done = (_ROUNDING_SHARE if step.rounding == "reconstruct" else 1.0), 0
    unmeasured: list[str] = []

    def visit(pair: LayerPair) -> None:
        nonlocal done
        done += 1
        context.report(share * done / len(bits))
        if step.rounding == "nearest":
            return
        if measurable(pair.module):
            _round_well(pair, step, bits[pair.name])
        else:
            unmeasured.append(pair.name)
            grid = _grid(weight_of(pair.module), step, bits[pair.name])
            parametrize_weight(pair.module, None, grid)

    setting = ("rounding", step.rounding) if step.rounding != "nearest" else ("repair", step.repair)
    missed = paired_forward(
        context.reference,
        model,
        context.images(*setting),
        visit,
        batchnorm="batchnorm" in step.repair,
        bias="bias" in step.repair,
    )
    if step.rounding == "nearest":
        return ()
    layers = dict(compressible(model))
    for name in missed:
        parametrize_weight(layers[name], None, _grid(weight_of(layers[name]), step, bits[name]))
    return nearest_notes(missed, unmeasured)


def _round_well(pair: LayerPair, step: Quantize, bits: int) -> None:
    """Choose a layer's grid and round its weight by the second moments of its inputs."""
    module, groups = pair.module, groups_of(pair.module)
    moments = measure_moments(module, pair.inputs, pair.reference_inputs)
    weight, mask = weight_of(module), mask_of(module)
    target = weight_rows(weight_of(pair.reference), groups)
    keep = weight_rows(torch.ones_like(weight, dtype=torch.bool) if mask is None else mask, groups)
    start = refit(weight_rows(weight, groups), keep, target, moments)
    # weights that only ever meet padding have no say in the range
    active = torch.where(moments.seen, start, 0.0).reshape(weight.shape)
    grid = _grid(active, step, bits)
    rounded = gptq(start, target, keep, _for_rows(grid, groups), moments)
    remove_parametrization(module)
    put_weight(module, rounded.reshape(weight.shape))
    parametrize_weight(module, mask, grid)


def _for_rows(grid: QuantizationGrid, groups: int) -> QuantizationGrid:
    """A weight's grid, one scale per output channel or one in all, for its rows."""

    def shaped(values: Tensor) -> Tensor:
        return values.reshape(1, 1, 1) if values.numel() == 1 else values.reshape(groups, -1, 1)

    return QuantizationGrid(shaped(grid.scale), shaped(grid.zero_point), grid.low, grid.high)
