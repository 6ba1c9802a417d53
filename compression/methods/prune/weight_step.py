"""The pruning step for single weights: score, choose masks by a pattern, compensate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from compression.methods.calibration.budget_allocation import SPARSITIES, allocate
from compression.methods.calibration.gradients import (
    WeightGradients,
    output_gradients,
    weight_gradients,
)
from compression.methods.calibration.paired_forward import LayerPair, visit_layer_inputs
from compression.methods.calibration.second_moments import (
    SecondMoments,
    groups_of,
    measurable,
    measure_moments,
    output_error,
    weight_rows,
)
from compression.methods.calibration.step_context import StepContext
from compression.methods.prune.compensation import (
    Attempt,
    Notes,
    ReportFraction,
    apply_masks,
    compensate,
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
from compression.models.parametrize import compressible, weight_of
from compression.recipe.steps import Prune
from compression.runs.format import listed

FISHER_IMAGES = 500

Scores = Mapping[str, Tensor]


def weight_pruner(model: nn.Module, step: Prune, context: StepContext) -> Attempt:
    """What masks a fraction of the weights of `model`, or of a copy, in place.

    Scores are taken of `model` here, once for all amounts.
    """
    scores, costs = _rank(model, step, context)

    def attempt(model: nn.Module, amount: float, report: ReportFraction) -> Notes:
        masks, notes = _masks(scores, costs, step, amount)
        changed = apply_masks(model, masks)
        if step.update != "none" or step.repair:
            notes += compensate(model, step, context, report)
        if not changed:
            notes += ("Pruning changed nothing: it set no further weight to zero.",)
        return notes

    return attempt


def _rank(
    model: nn.Module, step: Prune, context: StepContext
) -> tuple[dict[str, Tensor], list[list[float]]]:
    """The score of every weight, by the layers' names, of the weights' shapes; and where sparsity
    is allocated, what each of `SPARSITIES` costs in each layer.

    The second moments of one layer's inputs alone are in memory at a time.

    Raises:
        InvalidInput: the score needs images, and there are none.
    """
    layers = dict(compressible(model))
    allocated = step.scope == "allocated" and not step.fixed_pattern
    fisher = _output_fisher(model, context) if allocated else {}
    evidence = _evidence(model, step.score, context)
    scores: dict[str, Tensor] = {}
    costs: dict[str, list[float]] = {}

    def rank(name: str, moments: SecondMoments | None) -> None:
        weight = weight_of(layers[name])
        values = SCORES[step.score].of(replace(evidence(name), moments=moments))
        values = values.reshape(weight.shape)
        # what is zero already goes first
        scores[name] = values if step.score == "magnitude" else values.where(weight != 0, -1.0)
        if allocated:
            assert moments is not None
            ones = torch.ones(len(weight), device=weight.device)
            costs[name] = _losses(layers[name], scores[name], moments, fisher.get(name, ones))

    def measure(pair: LayerPair) -> None:
        if measurable(pair.module):
            rank(pair.name, measure_moments(pair.module, pair.inputs))
        context.report(0.4 * len(scores) / len(layers))

    needs_moments = allocated or SCORES[step.score].needs == "moments"
    if needs_moments:
        visit_layer_inputs(model, context.images("score", "obs"), measure)
    for name, module in layers.items():
        if name not in scores:
            # where inputs cannot be measured, in attention, they are taken to be all alike
            rank(name, _even(weight_of(module), groups_of(module)) if needs_moments else None)
    return {name: scores[name] for name in layers}, [costs[n] for n in layers if n in costs]


def _evidence(model: nn.Module, score: str, context: StepContext) -> Callable[[str], Evidence]:
    """What a score needs to know of a layer but for its inputs, by the layer's name."""
    layers, needs = dict(compressible(model)), SCORES[score].needs
    gradients: dict[str, WeightGradients] = {}
    drawn: dict[str, Tensor] = {}
    if needs == "gradients":
        gradients = weight_gradients(model, context.labelled("score", score), context.device)
    if needs == "drawn":
        generator = torch.Generator().manual_seed(context.seed)
        for name, module in layers.items():
            drawn[name] = torch.rand(weight_of(module).shape, generator=generator) + 1e-9

    def evidence(name: str) -> Evidence:
        weight, groups = weight_of(layers[name]), groups_of(layers[name])
        slopes, numbers = gradients.get(name), drawn.get(name)
        return Evidence(
            weight_rows(weight, groups),
            taylor=None if slopes is None else weight_rows(slopes.taylor, groups),
            fisher=None if slopes is None else weight_rows(slopes.fisher, groups),
            drawn=None if numbers is None else weight_rows(numbers.to(weight.device), groups),
        )

    return evidence


def _even(weight: Tensor, groups: int) -> SecondMoments:
    """Moments of inputs that were not measured: all alike."""
    depth = weight[0].numel()
    one = torch.eye(depth, device=weight.device).expand(groups, depth, depth)
    return SecondMoments(torch.ones(depth, dtype=torch.bool, device=weight.device), one, one)


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
        f"{group}: {listed(whole)}."
    )
    return {n: m for n, m in masks.items() if m is not None}, (note,) if whole else ()


def _output_fisher(model: nn.Module, context: StepContext) -> dict[str, Tensor]:
    """The diagonal Fisher information of the layers' outputs, by name: [outputs]."""
    images = context.images_for_gradients("scope", "allocated", FISHER_IMAGES)
    return output_gradients(model, images, context.seed)


def _losses(
    module: nn.Module, score: Tensor, moments: SecondMoments, output_fisher: Tensor
) -> list[float]:
    """What each of `SPARSITIES` costs, uncompensated.

    The root of the sum over outputs of g² (Y - Y_pruned)²: the size of the change of the loss, to
    first order, if the layers' changes are independent of each other.
    """
    groups = groups_of(module)
    weight, fisher = weight_rows(weight_of(module), groups), output_fisher.view(groups, -1)
    losses = []
    for sparsity in SPARSITIES:
        drop = ~smallest_counted(score, round(sparsity * score.numel()))
        change = (weight * weight_rows(drop, groups))[..., moments.seen]
        losses.append(float((output_error(change, moments.gram) * fisher).sum()) ** 0.5)
    return losses


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
