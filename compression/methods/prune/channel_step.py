"""The pruning step for channels: choose, compensate while the model has its full size, remove."""

from __future__ import annotations

from torch import nn

from compression.methods.calibration.batchnorm import estimate_batchnorm
from compression.methods.calibration.step_context import StepContext
from compression.methods.prune.channels import Plan, choose_channels, remove, what_stays
from compression.methods.prune.compensation import (
    Attempt,
    Notes,
    ReportFraction,
    apply_masks,
    compensate,
)
from compression.models.parametrize import (
    compressible,
    grid_of,
    mask_of,
    parametrize_weight,
    remove_parametrization,
)
from compression.recipe.steps import Prune


def channel_pruner(step: Prune, context: StepContext) -> Attempt:
    """What removes a fraction of a model's channels, in place."""

    def attempt(model: nn.Module, amount: float, report: ReportFraction) -> Notes:
        labelled = context.labelled("score", step.score) if step.score == "taylor" else None
        plan = choose_channels(
            model,
            architecture=context.target.architecture or context.target.name,
            example=context.example(),
            sparsity=amount,
            score=step.score,
            scope=step.scope,
            round_to=step.round_to,
            labelled=labelled,
            seed=context.seed,
        )
        report(0.5)
        notes: Notes = (plan.note,) if plan.note else ()
        compensated = step.update != "none" or "bias" in step.repair
        if compensated:
            notes += _compensate_masked(model, plan, step, context, report)
        remove(model, plan)
        if "batchnorm" in step.repair and not compensated:
            estimate_batchnorm(model, context.images("repair", "batchnorm"))
        return notes

    return attempt


def _compensate_masked(
    model: nn.Module, plan: Plan, step: Prune, context: StepContext, report: ReportFraction
) -> Notes:
    """Compensate with what is to go masked: only at its full size can the model run beside its
    reference."""
    masks = {name: mask_of(module) for name, module in compressible(model)}
    apply_masks(model, what_stays(model, plan))
    notes = compensate(model, step, context, report)
    for name, module in compressible(model):
        grid = grid_of(module)
        remove_parametrization(module)
        parametrize_weight(module, masks[name], grid)
    return notes
