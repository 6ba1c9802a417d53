"""The pruning step: scores, then a pattern, then compensation and repair."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from compression.errors import InvalidInput
from compression.methods.calibration.accuracy_search import largest_amount_within_drop
from compression.methods.calibration.batchnorm import estimate_batchnorm
from compression.methods.calibration.budget_allocation import SPARSITIES, allocate
from compression.methods.calibration.gradients import (
    WeightGradients,
    output_gradients,
    weight_gradients,
)
from compression.methods.calibration.least_squares import refit
from compression.methods.calibration.paired_forward import (
    LayerPair,
    paired_forward,
    visit_layer_inputs,
)
from compression.methods.calibration.second_moments import (
    SecondMoments,
    groups_of,
    measurable,
    measure_moments,
    output_error,
    weight_rows,
)
from compression.methods.calibration.step_context import StepContext, first_setting_needing_images
from compression.methods.prune.channels import (
    Plan,
    choose_channels,
    remove,
    what_stays,
)
from compression.methods.prune.masks import (
    below,
    best_of_each,
    refuse_empty,
    smallest_counted,
    smallest_global,
    smallest_per_layer,
    spread_count,
)
from compression.methods.prune.scores import SCORES, Evidence
from compression.models.parametrize import (
    compressible,
    grid_of,
    mask_of,
    parametrize_weight,
    put_weight,
    remove_parametrization,
    weight_of,
)
from compression.recipe.steps import Prune

FISHER_IMAGES = 500

Scores = Mapping[str, Tensor]
Notes = tuple[str, ...]


def prune(model: nn.Module, step: Prune, context: StepContext) -> tuple[nn.Module, Notes]:
    """Apply a pruning step to `model` in place, or to a copy if the amount is to be searched."""
    _refuse(model, step, context)
    if step.pattern == "channels":
        attempt = _channel_pruner(step, context)
    else:
        attempt = _weight_pruner(model, step, context)
    if step.max_drop is None:
        return model, attempt(model, step.sparsity or 0.0, context.report)
    return _search(model, step, context, attempt)


Attempt = Callable[[nn.Module, float, Callable[[float], None]], Notes]


def _refuse(model: nn.Module, step: Prune, context: StepContext) -> None:
    """Refuse what cannot be done, before anything is spent."""
    if asked := first_setting_needing_images(step):
        context.dataset(*asked)
    if step.update != "none" and any(grid_of(m) for _, m in compressible(model)):
        allowed = "none for weights that are quantized; prune before quantizing"
        raise InvalidInput("update", step.update, allowed)


def _search(
    model: nn.Module, step: Prune, context: StepContext, attempt: Attempt
) -> tuple[nn.Module, Notes]:
    made: dict[int, Notes] = {}

    def tried(amount: float) -> nn.Module:
        candidate = copy.deepcopy(model)
        made[id(candidate)] = attempt(candidate, amount, lambda _: None)
        return candidate

    data = context.dataset("max_drop", step.max_drop)
    _, found, sentence = largest_amount_within_drop(
        tried,
        context.original,
        data.search,
        step.max_drop or 0.0,
        context.device,
        context.report,
    )
    return found, (sentence, *made[id(found)])


def _channel_pruner(step: Prune, context: StepContext) -> Attempt:
    def attempt(model: nn.Module, amount: float, report: Callable[[float], None]) -> Notes:
        batch = context.labelled("score", step.score) if step.score == "taylor" else None
        plan = choose_channels(
            model,
            architecture=context.card.architecture,
            example=context.example(),
            sparsity=amount,
            score=step.score,
            scope=step.scope,
            round_to=step.round_to,
            batch=batch,
            seed=context.seed,
        )
        report(0.5)
        notes: Notes = (plan.note,) if plan.note else ()
        walks = step.update != "none" or "bias" in step.repair
        if walks:
            notes += _repair_before(model, plan, step, context, report)
        remove(model, plan)
        if "batchnorm" in step.repair and not walks:
            estimate_batchnorm(model, context.images("repair", "batchnorm"))
        return notes

    return attempt


def _repair_before(
    model: nn.Module, plan: Plan, step: Prune, context: StepContext, report: Callable[[float], None]
) -> Notes:
    """Repair with what is to go masked: at its full size the model can walk beside another."""
    before = {name: mask_of(module) for name, module in compressible(model)}
    _mask(model, what_stays(model, plan))
    notes = _repair(model, step, context, report)
    for name, module in compressible(model):
        grid = grid_of(module)
        remove_parametrization(module)
        parametrize_weight(module, before[name], grid)
    return notes


def _weight_pruner(model: nn.Module, step: Prune, context: StepContext) -> Attempt:
    allocated = step.scope == "allocated" and not step.fixed_pattern
    statistics = allocated or SCORES[step.score].needs == "moments"
    moments = _moments(model, context) if statistics else {}
    scores = score_weights(model, step.score, context, moments)
    costs = _costs(model, scores, moments, context) if allocated else []

    def attempt(model: nn.Module, amount: float, report: Callable[[float], None]) -> Notes:
        masks, notes = _masks(scores, costs, step, amount)
        changed = _mask(model, masks)
        if step.update != "none" or step.repair:
            notes += _repair(model, step, context, report)
        if not changed:
            notes += ("Pruning changed nothing: it set no further weight to zero.",)
        return notes

    return attempt


def _mask(model: nn.Module, masks: Mapping[str, Tensor]) -> bool:
    changed = False
    for name, module in compressible(model):
        if name in masks:
            changed = changed or bool((~masks[name] & (weight_of(module) != 0)).any())
            parametrize_weight(module, masks[name], None)
    return changed


def score_weights(
    model: nn.Module, name: str, context: StepContext, moments: Mapping[str, SecondMoments]
) -> dict[str, Tensor]:
    """The score of every weight, of the weights' shapes. What is zero already goes first."""
    score = SCORES[name]
    gradients: dict[str, WeightGradients] = {}
    if score.needs == "gradients":
        gradients = weight_gradients(model, *context.labelled("score", name))
    generator = torch.Generator().manual_seed(context.seed)
    found = {}
    for layer, module in compressible(model):
        weight, groups = weight_of(module), groups_of(module)
        known = Evidence(weight_rows(weight, groups))
        if score.needs == "moments":
            known = Evidence(known.weight, moments=moments[layer])
        elif score.needs == "gradients":
            slopes = gradients[layer]
            known = Evidence(
                known.weight,
                taylor=weight_rows(slopes.taylor, groups),
                fisher=weight_rows(slopes.fisher, groups),
            )
        elif score.needs == "drawn":
            drawn = torch.rand(known.weight.shape, generator=generator) + 1e-9
            known = Evidence(known.weight, drawn=drawn.to(weight.device))
        values = score.of(known).reshape(weight.shape)
        found[layer] = torch.where(weight == 0, -1.0, values) if name != "magnitude" else values
    return found


def _even(weight: Tensor, groups: int) -> SecondMoments:
    """Moments of inputs of which nothing is known: all alike."""
    depth = weight[0].numel()
    one = torch.eye(depth, device=weight.device).expand(groups, depth, depth)
    return SecondMoments(torch.ones(depth, dtype=torch.bool, device=weight.device), one, one)


def _moments(model: nn.Module, context: StepContext) -> dict[str, SecondMoments]:
    """Of every layer's inputs; inside attention, where they are not seen, all inputs are alike."""
    found: dict[str, SecondMoments] = {}

    def see(meeting: LayerPair) -> None:
        if measurable(meeting.module):
            found[meeting.name] = measure_moments(meeting.module, meeting.inputs)
        context.report(0.4 * len(found) / layers)

    layers = len(dict(compressible(model)))
    visit_layer_inputs(model, context.images("score", "obs"), see)
    for name, module in compressible(model):
        if name not in found:
            found[name] = _even(weight_of(module), groups_of(module))
    return found


def _masks(
    scores: Scores, costs: list[list[float]], step: Prune, amount: float
) -> tuple[dict[str, Tensor], Notes]:
    if step.fixed_pattern:
        return _n_of_m(scores, step.pattern)
    if step.threshold is not None:
        masks = below(scores, step.threshold)
        refuse_empty(masks, "threshold", step.threshold)
        return masks, ()
    if step.scope == "allocated":
        masks = _allocated(scores, costs, amount)
    elif step.scope == "global":
        masks = smallest_global(scores, amount)
    else:
        masks = smallest_per_layer(scores, amount)
    refuse_empty(masks, "sparsity", amount)
    return masks, ()


def _n_of_m(scores: Scores, pattern: str) -> tuple[dict[str, Tensor], Notes]:
    kept, group = (int(n) for n in pattern.split(":"))
    masks = {name: best_of_each(score, kept, group) for name, score in scores.items()}
    whole = [name for name, mask in masks.items() if mask is None]
    note = (
        f"{len(whole)} of {len(masks)} layers stay whole, for their inputs are no multiple of "
        f"{group}: {', '.join(whole[:3])}{' and others' if len(whole) > 3 else ''}."
    )
    return {n: m for n, m in masks.items() if m is not None}, (note,) if whole else ()


def _costs(
    model: nn.Module, scores: Scores, moments: Mapping[str, SecondMoments], context: StepContext
) -> list[list[float]]:
    """What each of `SPARSITIES` costs in each layer, uncompensated.

    The root of the sum over outputs of g² (Y - Y_pruned)²: the size of the change of the loss, to
    first order, if the layers' changes are independent of each other.
    """
    images = context.images("scope", "allocated")
    powers = output_gradients(model, images[:FISHER_IMAGES], context.seed)
    found = []
    for name, module in compressible(model):
        power = powers.get(name, torch.ones(len(weight_of(module)), device=images.device))
        found.append(_losses(module, scores[name], moments[name], power))
    return found


def _losses(
    module: nn.Module, score: Tensor, moments: SecondMoments, output_power: Tensor
) -> list[float]:
    groups = groups_of(module)
    weight, power = weight_rows(weight_of(module), groups), output_power.view(groups, -1)
    found = []
    for sparsity in SPARSITIES:
        drop = ~smallest_counted(score, round(sparsity * score.numel()))
        change = (weight * weight_rows(drop, groups))[..., moments.seen]
        found.append(float((output_error(change, moments.gram) * power).sum()) ** 0.5)
    return found


def _allocated(scores: Scores, costs: list[list[float]], amount: float) -> dict[str, Tensor]:
    """Masks of exactly `amount` zeros in all, more where a layer's costs are low."""
    counts = [score.numel() for score in scores.values()]
    sizes = [[n - round(s * n) for s in SPARSITIES] for n in counts]
    total, most = round(amount * sum(counts)), [n - 1 for n in counts]
    least = sum(min(options) for options in sizes)
    chosen = allocate(costs, sizes, max(sum(counts) - total, least))
    zeros = [n - sizes[i][o] for i, (n, o) in enumerate(zip(counts, chosen, strict=True))]
    if total > sum(most):
        zeros = counts
    else:
        zeros = spread_count([min(z, m) for z, m in zip(zeros, most, strict=True)], most, total)
    pairs = zip(scores.items(), zeros, strict=True)
    return {name: smallest_counted(score, count) for (name, score), count in pairs}


def _repair(
    model: nn.Module, step: Prune, context: StepContext, report: Callable[[float], None]
) -> Notes:
    layers, done = len(dict(compressible(model))), 0

    def visit(meeting: LayerPair) -> None:
        nonlocal done
        done += 1
        report(0.6 + 0.4 * done / layers)
        mask = mask_of(meeting.module)
        if step.update == "none" or mask is None or not measurable(meeting.module):
            return
        groups = groups_of(meeting.module)
        moments = measure_moments(meeting.module, meeting.inputs, meeting.reference_inputs)
        weight = weight_of(meeting.module)
        target = weight_rows(weight_of(meeting.reference), groups)
        new = refit(weight_rows(weight, groups), weight_rows(mask, groups), target, moments)
        put_weight(meeting.module, new.reshape(weight.shape))

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
        return (f"Not compensated, for they are part of attention: {', '.join(missed[:3])}.",)
    return ()
