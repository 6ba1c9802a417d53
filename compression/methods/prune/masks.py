"""Which weights stay: from scores to masks.

Pure functions of scores of any shape, by the layers' names; masks are bool of the same shapes, True
where a weight stays (Han et al., 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compression.errors import InvalidInput


def below(scores: Mapping[str, Tensor], threshold: float) -> dict[str, Tensor]:
    """Keep what scores at least `threshold`."""
    return {name: score >= threshold for name, score in scores.items()}


def smallest_global(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Drop exactly `round(sparsity * n)` of all n weights, the smallest over the whole network.

    Equal scores go in the order of the layers, so that the count is exact.
    """
    flat = torch.cat([score.flatten() for score in scores.values()])
    keep = _keep(flat, sparsity)
    parts = keep.split([score.numel() for score in scores.values()])
    return {
        name: part.view(score.shape)
        for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def smallest_per_layer(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Drop exactly `round(sparsity * n)` of the n weights of every layer."""
    return {
        name: _keep(score.flatten(), sparsity).view(score.shape) for name, score in scores.items()
    }


def smallest_counted(score: Tensor, count: int) -> Tensor:
    """Drop exactly `count` weights of one layer."""
    flat = score.flatten()
    return _keep_all_but(flat, count).view(score.shape)


def best_of_each(score: Tensor, kept: int, group: int) -> Tensor | None:
    """Keep `kept` of every `group` consecutive inputs of a weight [o, i, ...]; None if the inputs
    do not divide into such groups.

    Along the input channels, which is where sparse tensor cores read them (Mishra et al., 2021).
    """
    inputs = score.shape[1]
    if inputs % group:
        return None
    grouped = score.movedim(1, -1).reshape(-1, inputs // group, group)
    best = grouped.argsort(dim=2, descending=True, stable=True)[..., :kept]
    mask = torch.zeros_like(grouped, dtype=torch.bool).scatter_(2, best, True)
    shape = score.movedim(1, -1).shape
    return mask.view(shape).movedim(-1, 1).contiguous()


def spread_count(counts: Sequence[int], most: Sequence[int], total: int) -> list[int]:
    """Counts moved to add up to exactly `total`, each by about the same fraction and never above
    its `most` or below 0."""
    moved = list(counts)
    while (missing := total - sum(moved)) != 0:
        room = [m - c if missing > 0 else c for c, m in zip(moved, most, strict=True)]
        free = sum(room)
        if free < abs(missing):
            raise ValueError(f"{total} is more than all layers have")
        for i, space in enumerate(room):
            step = min(-(-abs(missing) * space // free), abs(total - sum(moved)))
            moved[i] += step if missing > 0 else -step
    return moved


def _keep(flat: Tensor, sparsity: float) -> Tensor:
    return _keep_all_but(flat, round(sparsity * flat.numel()))


def _keep_all_but(flat: Tensor, count: int) -> Tensor:
    keep = torch.ones_like(flat, dtype=torch.bool)
    if count == 0:
        return keep
    if count == flat.numel():
        return ~keep
    # Selecting is several times faster than sorting eleven million scores. Of the scores equal
    # to the last one dropped, the first in order go, as a stable sort would have it.
    last = flat.kthvalue(count).values
    keep = flat > last
    equal = (flat == last).nonzero().flatten()
    spare = equal.numel() - (count - int((flat < last).sum()))
    keep[equal[equal.numel() - spare :]] = True
    return keep


def refuse_empty(masks: Mapping[str, Tensor], field: str, given: float) -> None:
    """Raise if a layer would keep no weight: its output would no longer depend on the image.

    Raises:
        InvalidInput: naming the setting, its value and the first such layer.
    """
    for name, mask in masks.items():
        if not mask.any():
            raise InvalidInput(
                field, given, f"less, for every weight of layer {name} would become zero"
            )
