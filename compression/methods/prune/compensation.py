"""What makes up for removed weights: the weights that stay, batch norms and biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from compression.methods.calibration.least_squares import refit
from compression.methods.calibration.paired_forward import LayerPair, paired_forward
from compression.methods.calibration.second_moments import (
    groups_of,
    measurable,
    measure_moments,
    weight_rows,
)
from compression.methods.calibration.step_context import StepContext
from compression.models.parametrize import (
    compressible,
    mask_of,
    parametrize_weight,
    put_weight,
    weight_of,
)
from compression.recipe.steps import Prune
from compression.runs.format import listed

Notes = tuple[str, ...]
ReportFraction = Callable[[float], None]
# Prunes a model by an amount, in place, reports the fraction done, and says what there is to say.
Attempt = Callable[[nn.Module, float, ReportFraction], Notes]


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> bool:
    """Mask the weights of layers, by name, in place; whether a weight became zero that was not.

    Args:
        masks: bool, of the weights' shapes; True where a weight stays.
    """
    changed = False
    for name, module in compressible(model):
        if name in masks:
            changed = changed or bool((~masks[name] & (weight_of(module) != 0)).any())
            parametrize_weight(module, masks[name], None)
    return changed


def compensate(
    model: nn.Module, step: Prune, context: StepContext, report: ReportFraction
) -> Notes:
    """Bring a masked model's outputs back towards the reference's, in place, layer by layer.

    With `update`, the weights that stay are fitted to the reference's outputs by least squares
    (optimal brain surgeon for a given mask, Hassibi and Stork, 1993); with `repair`, batch norms
    get new statistics and biases take up the mean error (Nagel et al., 2019).
    """
    layers, done = len(dict(compressible(model))), 0

    def visit(pair: LayerPair) -> None:
        nonlocal done
        done += 1
        report(0.6 + 0.4 * done / layers)
        mask = mask_of(pair.module)
        if step.update == "none" or mask is None or not measurable(pair.module):
            return
        groups = groups_of(pair.module)
        moments = measure_moments(pair.module, pair.inputs, pair.reference_inputs)
        weight = weight_of(pair.module)
        target = weight_rows(weight_of(pair.reference), groups)
        fitted = refit(weight_rows(weight, groups), weight_rows(mask, groups), target, moments)
        put_weight(pair.module, fitted.reshape(weight.shape))

    images = context.images("repair" if step.repair else "update", step.update)
    missed = paired_forward(
        context.reference,
        model,
        images,
        visit,
        batchnorm="batchnorm" in step.repair,
        bias="bias" in step.repair,
    )
    if step.update != "none" and missed:
        return (f"Not compensated, because they are part of attention: {listed(missed)}.",)
    return ()
