"""Which weights stay: from scores to masks. Pure functions; True means the weight stays."""

from __future__ import annotations

from collections.abc import Mapping

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


def _keep(flat: Tensor, sparsity: float) -> Tensor:
    count = round(sparsity * flat.numel())
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
