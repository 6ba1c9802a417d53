"""The weights that stay adjust so that a layer's output changes least: masked least squares."""

from __future__ import annotations

import torch
from torch import Tensor

from compression.methods.calibration.second_moments import SecondMoments, damped

DAMPING = 0.01
ITERATIONS = 60
TOLERANCE = 1e-7


def refit(weight: Tensor, mask: Tensor, target: Tensor, moments: SecondMoments) -> Tensor:
    """Rows [g, o, d] of weights, zero where `mask` is False, whose output is nearest the target's.

    Minimises |target r - w x|² over inputs x and the reference's inputs r, plus a small pull
    towards `weight`, by conjugate gradients from `weight`: all rows at once, whatever their masks.
    So the output error is never larger than that of `weight` with the mask. The optimal update of
    optimal brain surgeon (Hassibi and Stork, 1993) for a given mask; conjugate gradients for it as
    in ALPS (Meng et al., 2024).

    Args:
        weight: rows [g, o, d] as they are.
        mask: which weights stay, bool [g, o, d].
        target: the reference's rows [g, o, d].
        moments: of the layer's inputs and the reference's.
    """
    seen = moments.seen
    kept = mask[..., seen].to(weight.dtype)
    start = weight[..., seen] * kept
    gram = damped(moments.gram, DAMPING)
    pull = (gram - moments.gram).diagonal(dim1=1, dim2=2).unsqueeze(1)
    rhs = target[..., seen] @ moments.cross + pull * start
    out = weight * mask
    out[..., seen] = _conjugate_gradients(start, kept, rhs, gram)
    return out


def _conjugate_gradients(start: Tensor, mask: Tensor, rhs: Tensor, gram: Tensor) -> Tensor:
    """Solve `w gram = rhs` for each row on its mask, Jacobi-preconditioned."""
    w, scale = start, gram.diagonal(dim1=1, dim2=2).unsqueeze(1).reciprocal()
    residual = (rhs - w @ gram) * mask
    z = residual * scale
    direction, power = z, (residual * z).sum(2, keepdim=True)
    enough = TOLERANCE * power
    for _ in range(ITERATIONS):
        step = (direction @ gram) * mask
        curve = (direction * step).sum(2, keepdim=True)
        length = torch.where(curve > 0, power / curve, 0.0)
        w = w + length * direction
        residual = residual - length * step
        z = residual * scale
        before, power = power, (residual * z).sum(2, keepdim=True)
        if bool((power <= enough).all()):
            break
        direction = z + torch.where(before > 0, power / before, 0.0) * direction
    return w
