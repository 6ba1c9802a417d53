"""What each weight is worth; the least goes first. Pure functions of rows [g, o, d]."""

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

    second moments of its inputs, |w g| and g² averaged over batches (rows), numbers drawn evenly
    from 0 to 1 (rows).
    """

    weight: Tensor
    moments: SecondMoments | None = None
    taylor: Tensor | None = None
    fisher: Tensor | None = None
    drawn: Tensor | None = None


def magnitude(known: Evidence) -> Tensor:
    """|w| (Han et al., 2015)."""
    return known.weight.abs()


def activation(known: Evidence) -> Tensor:
    """|w x|: weight times the root mean square of its input (as Wanda, Sun et al., 2023)."""
    moments = _given(known.moments)
    power = moments.gram.diagonal(dim1=1, dim2=2).clamp_min(0.0)
    return _spread(power.sqrt().unsqueeze(1), known, moments) * known.weight.abs()


def taylor(known: Evidence) -> Tensor:
    """|w g|: first-order change of the loss (Molchanov et al., 2019)."""
    return _given(known.taylor)


def fisher(known: Evidence) -> Tensor:
    """(w g)²: diagonal second-order change of the loss (Theis et al., 2018)."""
    return known.weight.square() * _given(known.fisher)


def obs(known: Evidence) -> Tensor:
    """|w| / sqrt([H⁻¹]_jj): change of the layer's output after the others have adjusted.

    Optimal brain surgeon (Hassibi and Stork, 1993) with H = E[x x'] of each layer.
    """
    moments = _given(known.moments)
    factor = torch.linalg.cholesky(damped(moments.gram, DAMPING).double())
    inverse = torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2)
    return _spread(inverse.rsqrt().float().unsqueeze(1), known, moments) * known.weight.abs()


def random(known: Evidence) -> Tensor:
    """Numbers that know nothing of the weights: the control every comparison needs."""
    return _given(known.drawn)


def _spread(values: Tensor, known: Evidence, moments: SecondMoments) -> Tensor:
    """Values of the inputs that are seen [g, 1, seen] for all inputs; the others get 0."""
    out = values.new_zeros(len(values), 1, known.weight.shape[2])
    out[..., moments.seen] = values
    return out


_Measured = TypeVar("_Measured", SecondMoments, Tensor)


def _given(value: _Measured | None) -> _Measured:
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
