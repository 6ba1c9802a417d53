"""Rounding that knows what a layer's inputs look like. Pure functions of rows [g, o, d]."""

from __future__ import annotations

import torch
from torch import Tensor

from compression.methods.calibration.second_moments import SecondMoments, damped
from compression.models.parametrize import QuantizationGrid

DAMPING = 0.01
SWEEPS = 3


def gptq(
    weight: Tensor, target: Tensor, mask: Tensor, grid: QuantizationGrid, moments: SecondMoments
) -> Tensor:
    """Rows on the grid whose output is near the target's; zero where `mask` is False.

    `weight` is where to start from, `target` the reference's rows, `grid` broadcasts against
    rows. Column after column is rounded and the columns to come make up for the error (GPTQ,
    Frantar et al., 2022); a row for which rounding to the nearest is better keeps that; then
    each weight in turn moves to the value best for all others as they are (coordinate descent, as
    in QuantEase, Behdin et al., 2023). So the output error never exceeds that of the nearest.
    Weights that see nothing but padding become zero.
    """
    active = moments.seen
    gram, kept = damped(moments.gram, DAMPING), mask[..., active]
    start = weight[..., active]
    pull = (gram - moments.gram).diagonal(dim1=1, dim2=2).unsqueeze(1)
    wanted = target[..., active] @ moments.cross + pull * start
    nearest = torch.where(kept, grid.snap(start), 0.0)
    rounded = _gptq_pass(start, kept, grid, gram)
    better = _loss(rounded, wanted, gram) < _loss(nearest, wanted, gram)
    best = _coordinate_descent(torch.where(better, rounded, nearest), kept, grid, wanted, gram)
    out = torch.zeros_like(weight)
    out[..., active] = best
    return out


def _loss(w: Tensor, wanted: Tensor, gram: Tensor) -> Tensor:
    """Output error of each row up to a constant: [g, o, 1]."""
    return ((w @ gram - 2 * wanted) * w).sum(2, keepdim=True)


def _gptq_pass(weight: Tensor, mask: Tensor, grid: QuantizationGrid, gram: Tensor) -> Tensor:
    """GPTQ, the inputs with most power first."""
    order = gram.diagonal(dim1=1, dim2=2).sum(0).argsort(descending=True)
    sorted_gram = gram[:, order][:, :, order].double()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(sorted_gram))
    upper = torch.linalg.cholesky(inverse, upper=True).to(weight.dtype)
    w, kept = weight[..., order].clone(), mask[..., order]
    for j in range(w.shape[2]):
        column = w[..., j : j + 1]
        code = torch.where(kept[..., j : j + 1], grid.snap(column), 0.0)
        error = (column - code) / upper[:, j : j + 1, j : j + 1]
        w[..., j + 1 :] -= error * upper[:, j : j + 1, j + 1 :]
        w[..., j : j + 1] = code
    back = torch.empty_like(w)
    back[..., order] = w
    return back


def _coordinate_descent(
    w: Tensor, mask: Tensor, grid: QuantizationGrid, wanted: Tensor, gram: Tensor
) -> Tensor:
    w = w.clone()
    residual = wanted - w @ gram
    for _ in range(SWEEPS):
        moved = False
        for j in range(w.shape[2]):
            old, power = w[..., j : j + 1], gram[:, j : j + 1, j : j + 1]
            best = old + residual[..., j : j + 1] / power
            new = torch.where(mask[..., j : j + 1], grid.snap(best), 0.0)
            step = new - old
            if bool((step != 0).any()):
                moved = True
                residual -= step * gram[:, j : j + 1]
                w[..., j : j + 1] = new
        if not moved:
            break
    return w
