"""Hooks see every pass by name, may replace what goes in and out, and are gone afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compression.models.hooks import hooked, leaves


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))


def free(model: nn.Module) -> bool:
    return not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_modules_are_seen_by_name_in_the_order_of_use_and_only_inside() -> None:
    model, seen = net(), []

    def pre(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(("pre", name, module, inputs[0].shape))

    def post(name: str, module: nn.Module, _: object, output: Tensor) -> None:
        seen.append(("post", name, module, output.shape))

    with hooked(leaves(model), pre=pre, post=post):
        model(torch.ones(3, 2))
    model(torch.ones(3, 2))
    expected = [(kind, name) for name in ("0", "1.0", "1.1") for kind in ("pre", "post")]
    assert [(kind, name) for kind, name, _, _ in seen] == expected
    assert all(module is model.get_submodule(name) for _, name, module, _ in seen)
    assert free(model)


def test_what_hooks_return_goes_in_and_out() -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    x = torch.ones(1, 2)
    with hooked({"one": model}, pre=lambda *_: (3 * x,), post=lambda *rest: rest[-1] + 0.5):
        assert model(x).item() == 6.5
    assert model(x).item() == 2.0


def test_first_comes_before_hooks_that_are_there() -> None:
    model, order = nn.Linear(2, 2), []
    model.register_forward_pre_hook(lambda *_: order.append("there"))
    for first in (True, False):
        with hooked({"": model}, pre=lambda *_: order.append("new"), first=first):
            model(torch.ones(1, 2))
    assert order == ["new", "there", "there", "new"]


def test_an_error_takes_hooks_away_too() -> None:
    model = net()

    def fail(*_: object) -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"), hooked(leaves(model), post=fail):
        model(torch.ones(1, 2))
    assert free(model)
