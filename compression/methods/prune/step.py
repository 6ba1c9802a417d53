"""The pruning step: channels or weights go, an amount given or searched for."""

from __future__ import annotations

import copy

from torch import nn

from compression.errors import InvalidInput
from compression.methods.calibration.accuracy_search import largest_amount_within_drop
from compression.methods.calibration.step_context import StepContext
from compression.methods.prune.channel_step import channel_pruner
from compression.methods.prune.compensation import Attempt, Notes
from compression.methods.prune.weight_step import weight_pruner
from compression.models.parametrize import compressible, grid_of
from compression.models.requirements import first_setting_needing_images
from compression.recipe.steps import Prune


def prune(model: nn.Module, step: Prune, context: StepContext) -> tuple[nn.Module, Notes]:
    """Apply a pruning step to `model` in place, or to a copy if the amount is to be searched.

    Returns:
        The pruned model and notes for a person.

    Raises:
        InvalidInput: the model, its data or an earlier step does not allow a setting.
        CompressionError: the model cannot be followed or gives values that are not finite.
    """
    _refuse(model, step, context)
    if step.pattern == "channels":
        attempt = channel_pruner(step, context)
    else:
        attempt = weight_pruner(model, step, context)
    if step.max_drop is None:
        return model, attempt(model, step.sparsity or 0.0, context.report)
    return _search(model, step, context, attempt)


def _refuse(model: nn.Module, step: Prune, context: StepContext) -> None:
    """Refuse what cannot be done, before anything is spent."""
    if setting := first_setting_needing_images(step):
        context.dataset(*setting)
    if step.update != "none" and any(grid_of(m) for _, m in compressible(model)):
        allowed = "none for weights that are quantized; prune before quantizing"
        raise InvalidInput("update", step.update, allowed)


def _search(
    model: nn.Module, step: Prune, context: StepContext, attempt: Attempt
) -> tuple[nn.Module, Notes]:
    """The sparsest copy within the drop of accuracy that the step allows."""
    notes: dict[float, Notes] = {}

    def pruned_copy(amount: float) -> nn.Module:
        candidate = copy.deepcopy(model)
        notes[amount] = attempt(candidate, amount, lambda _: None)
        return candidate

    data = context.dataset("max_drop", step.max_drop)
    amount, pruned, sentence = largest_amount_within_drop(
        pruned_copy,
        context.original,
        data.search,
        step.max_drop or 0.0,
        context.device,
        context.report,
    )
    return pruned, (sentence, *notes[amount])
