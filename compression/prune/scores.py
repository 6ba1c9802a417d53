"""What each weight is worth; the least goes first. Pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def magnitude(weight: Tensor) -> Tensor:
    """|w| (Han et al., 2015). The weight's shape."""
    return weight.abs()


SCORES: dict[str, Callable[[Tensor], Tensor]] = {"magnitude": magnitude}
