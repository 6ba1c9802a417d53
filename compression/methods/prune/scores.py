"""Importance scores of weights; the least important go first.

Pure functions of rows [g, o, d]: groups, outputs per group, inputs per output. Each gives scores of
that shape, at least 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from compression.methods.calibration.second_moments import SecondMoments, damped

DAMPING = 0.01


@dataclass(frozen=True)
class Evidence:
    """A layer's weights as rows [groups, outputs, inputs], and what a score needs to know of them:

    second moments of its inputs, |w g| and g² averaged over batches (rows), numbers drawn uniformly
    from 0 to 1 (rows).
    """

    weight: Tensor
    moments: SecondMoments | None = None
    taylor: Tensor | None = None
    fisher: Tensor | None = None
    drawn: Tensor | None = None


def magnitude(evidence: Evidence) -> Tensor:
    """|w| (Han et al., 2015)."""
    return evidence.weight.abs()


def activation(evidence: Evidence) -> Tensor:
    """|w x|: weight times the root mean square of its input (as Wanda, Sun et al., 2023)."""
    moments = _measured(evidence.moments)
    power = moments.gram.diagonal(dim1=1, dim2=2).clamp_min(0.0)
    return _spread(power.sqrt().unsqueeze(1), evidence, moments) * evidence.weight.abs()


def taylor(evidence: Evidence) -> Tensor:
    """|w g|: first-order change of the loss (Molchanov et al., 2019)."""
    return _measured(evidence.taylor)


def fisher(evidence: Evidence) -> Tensor:
    """(w g)²: diagonal second-order change of the loss (Theis et al., 2018)."""
    return evidence.weight.square() * _measured(evidence.fisher)


def obs(evidence: Evidence) -> Tensor:
    """|w| / sqrt([H⁻¹]_jj): change of the layer's output after the others have adjusted.

    Optimal brain surgeon (Hassibi and Stork, 1993) with H = E[x x'] of each layer.
    """
    moments = _measured(evidence.moments)
    factor = torch.linalg.cholesky(damped(moments.gram, DAMPING).double())
    inverse = torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2)
    return _spread(inverse.rsqrt().float().unsqueeze(1), evidence, moments) * evidence.weight.abs()


def random(evidence: Evidence) -> Tensor:
    """Uniform random numbers: the control every comparison needs."""
    return _measured(evidence.drawn)


def _spread(values: Tensor, evidence: Evidence, moments: SecondMoments) -> Tensor:
    """Values of the active inputs [g, 1, active] as values of all inputs; the others get 0."""
    out = values.new_zeros(len(values), 1, evidence.weight.shape[2])
    out[..., moments.seen] = values
    return out


_Measured = TypeVar("_Measured", SecondMoments, Tensor)


def _measured(value: _Measured | None) -> _Measured:
    if value is None:
        raise ValueError("the score needs what was not measured")
    return value


@dataclass(frozen=True)
class Score:
    """A score and what must be measured for it."""

    of: Callable[[Evidence], Tensor]
    needs: Literal["nothing", "moments", "gradients", "drawn"]


SCORES: dict[str, Score] = {
    "magnitude": Score(magnitude, "nothing"),
    "activation": Score(activation, "moments"),
    "taylor": Score(taylor, "gradients"),
    "fisher": Score(fisher, "gradients"),
    "obs": Score(obs, "moments"),
    "random": Score(random, "drawn"),
}
