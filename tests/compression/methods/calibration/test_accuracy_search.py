"""The largest amount within a drop: found on few images, and it holds on all."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compression.data.datasets import FASHION_MNIST, load_dataset
from compression.data.splits import Split
from compression.errors import InvalidInput
from compression.measure.accuracy import flips, predict
from compression.methods.calibration.accuracy_search import (
    RESOLUTION,
    largest_amount_within_drop,
)
from compression.methods.prune.masks import smallest_global
from compression.models.load import original_of
from compression.models.parametrize import compressible, parametrize_weight, weight_of


def _split(n: int = 2000) -> Split:
    return load_dataset("fashion-mnist").validation.head(n)


def _pruned(model: nn.Module, sparsity: float) -> nn.Module:
    twin = copy.deepcopy(model)
    layers = dict(compressible(twin))
    masks = smallest_global({n: weight_of(m).abs() for n, m in layers.items()}, sparsity)
    if not all(bool(m.any()) for m in masks.values()):
        raise InvalidInput("sparsity", sparsity, "less")
    for name, module in layers.items():
        parametrize_weight(module, masks[name], None)
    return twin


@pytest.mark.slow
def test_magnitude_pruning_of_a_bundled_model() -> None:
    original, split = original_of("fashion-mnist/squeezenet1_1"), _split()
    fractions: list[float] = []
    amount, model, sentence = largest_amount_within_drop(
        lambda a: _pruned(original, a), original, split, 1.0, "cpu", fractions.append
    )
    before = predict(original, split)

    def lost(candidate: nn.Module) -> int:
        changed = flips(before, predict(candidate, split))
        return changed.right_to_wrong - changed.wrong_to_right

    model.train()(torch.zeros(2, 3, 32, 32)).sum().backward()  # it can still be trained
    weights = torch.cat([weight_of(m).flatten() for _, m in compressible(model)])
    assert float((weights == 0).float().mean()) == pytest.approx(amount, abs=1e-5)
    assert 0.1 < amount < 0.9
    assert lost(model) <= 0.01 * len(split) < lost(_pruned(original, amount + RESOLUTION))
    assert (
        f"{100 * amount:.4g} %" in sentence
        and f"{-100 * lost(model) / len(split):+.2f}" in sentence
    )
    assert "2,000 images" in sentence
    assert fractions == sorted(fractions) and len(fractions) <= 10
    assert fractions[0] >= 0 and fractions[-1] < 1


class _Coin(nn.Module):
    """Answers class 0, but for the images from `start` to `stop` in the order it is shown them.

    The sizes of the batches go into `tally`, which copies share.
    """

    def __init__(self, start: int, stop: int, tally: list[int] | None = None) -> None:
        super().__init__()
        self.start, self.stop, self.shown = start, stop, 0
        self.tell = ([] if tally is None else tally).append

    def __deepcopy__(self, memo: object) -> _Coin:
        twin = _Coin(self.start, self.stop)
        twin.tell = self.tell
        return twin

    def forward(self, x: Tensor) -> Tensor:
        at = torch.arange(self.shown, self.shown + len(x))
        self.shown += len(x)
        self.tell(len(x))
        wrong = (at >= self.start) & (at < self.stop)
        return torch.stack([~wrong, wrong], 1).float()


def _zeros(n: int) -> Split:
    images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    return Split("validation", images, torch.zeros(n).long(), FASHION_MNIST)


def _attempts(wrong: Callable[[float], tuple[int, int]]) -> Callable[[float], nn.Module]:
    return lambda amount: _Coin(*wrong(amount))


def test_few_images_that_err_are_found_out() -> None:
    """Mistakes only among the last images: the first ones would let everything pass."""
    split = _zeros(2600)

    def wrong(amount: float) -> tuple[int, int]:
        return 2600 - round(100 * amount), 2600

    amount, model, sentence = largest_amount_within_drop(_attempts(wrong), _Coin(0, 0), split, 1.0)
    assert amount == 0.265 and isinstance(model, _Coin)  # 26 of 2,600
    assert "-1.00 points" in sentence


def test_a_clear_case_takes_few_images() -> None:
    split, tallies = _zeros(2600), []

    def attempt(amount: float) -> nn.Module:
        tallies.append([])
        return _Coin(0, 2600 if amount > 0.4 else 0, tallies[-1])

    amount, _, _ = largest_amount_within_drop(attempt, _Coin(0, 0), split, 1.0)
    assert amount == 0.4
    # the one that is given back is then looked at on all images
    assert sorted(sum(t) for t in tallies) == [500] * (len(tallies) - 1) + [500 + 2600]


def test_amounts_that_cannot_be_had_are_refused_but_not_zero() -> None:
    def attempt(amount: float) -> nn.Module:
        if amount > 0.61:
            raise InvalidInput("sparsity", amount, "less")
        return _Coin(0, 0)

    assert largest_amount_within_drop(attempt, _Coin(0, 0), _zeros(600), 0.0)[0] == 0.61

    def never(amount: float) -> nn.Module:
        raise InvalidInput("score", "taylor", "a model with a data set")

    with pytest.raises(InvalidInput, match="score: got 'taylor'"):
        largest_amount_within_drop(never, _Coin(0, 0), _zeros(600), 1.0)


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"max_drop: got 2\.0, allowed: at least 10, which"):
        largest_amount_within_drop(lambda a: _Coin(0, 60), _Coin(0, 0), _zeros(600), 2.0)
    with pytest.raises(InvalidInput, match="max_drop: got nan"):
        largest_amount_within_drop(lambda a: _Coin(0, 0), _Coin(0, 0), _zeros(600), math.nan)
    with pytest.raises(InvalidInput, match="images: got 0"):
        largest_amount_within_drop(lambda a: _Coin(0, 0), _Coin(0, 0), _zeros(0), 1.0)
