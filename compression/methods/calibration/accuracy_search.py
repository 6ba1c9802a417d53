"""As much compression as accuracy allows, found by bisection on paired evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import nn

from compression.errors import InvalidInput
from compression.measure.accuracy import flips, predict
from compression.models.data import Split
from compression.models.parametrize import materialize
from compression.runs.statistics import Interval, paired_difference

LARGEST = 0.999
RESOLUTION = 0.0025
# Images after which to look whether the interval decides; then all of them.
CHECKPOINT_SIZES = (500, 1250)
# Bisection of 400 steps, and a last look at all images.
_ATTEMPTS = 10


@dataclass(frozen=True)
class Amounts:
    """What is searched: amounts from 0 to `largest` in steps of `resolution`, and their words."""

    largest: float
    resolution: float
    words: Callable[[float], str]


SPARSITY = Amounts(LARGEST, RESOLUTION, lambda amount: f"a sparsity of {100 * amount:.4g} %")


def largest_amount_within_drop(
    attempt: Callable[[float], nn.Module],
    original: nn.Module,
    split: Split,
    max_drop_points: float,
    device: str = "cpu",
    report: Callable[[float], None] | None = None,
    amounts: Amounts = SPARSITY,
    use_lower_bound: bool = False,
) -> tuple[float, nn.Module, str]:
    """The most compression of which accuracy on `split` drops at most `max_drop_points` points.

    `attempt(amount)` gives a compressed model, the amount one of `amounts`, by default a
    sparsity; where it raises `InvalidInput` above 0, that amount is refused. Gives the
    amount, its model and a sentence with the interval. The model given back was measured on all
    images, and its drop there is at most what is allowed, even at the worse end of its interval if
    `use_lower_bound`; one step more was refused.

    Raises:
        InvalidInput: the split is empty, the drop is not a number of at least 0, or even
            `attempt(0)` loses more than allowed.
    """
    if not len(split):
        raise InvalidInput("images", 0, "at least one image to measure accuracy on")
    if not 0 <= max_drop_points <= 100:
        raise InvalidInput("max_drop", max_drop_points, "from 0 to 100 points")
    search = _Search(
        attempt, original, split, max_drop_points / 100, device, report, use_lower_bound
    )
    step = amounts.resolution
    amount = largest(search.accepts, 0.0, amounts.largest, step)
    if amount is None or not search.holds(amount):
        # Where the early looks erred, and before refusing all, only what all images say counts.
        amount = largest(search.holds, 0.0, max(0.0, (amount or 0.0) - step), step)
    if amount is None or search.passed is None:
        raise InvalidInput(
            "max_drop",
            max_drop_points,
            f"at least {-100 * (search.last.low if use_lower_bound else search.last.value):.3g}, "
            f"which is lost at {amounts.words(0.0)} already",
        )
    return amount, search.passed.model, _sentence(search.passed, amounts)


@dataclass(frozen=True)
class _Passed:
    amount: float
    model: nn.Module
    difference: Interval


def _sentence(passed: _Passed, amounts: Amounts) -> str:
    found = passed.difference
    value, low, high = (100 * v for v in (found.value, found.low, found.high))
    return (
        f"Bisection found {amounts.words(passed.amount)}, at which accuracy changes by "
        f"{value:+.2f} points on the {found.n:,} images that it looked at (95 % interval "
        f"{low:+.2f} to {high:+.2f})."
    )


class _Search:
    """What has been tried: the last model that passed, and the last difference measured."""

    def __init__(
        self,
        attempt: Callable[[float], nn.Module],
        original: nn.Module,
        split: Split,
        max_drop: float,
        device: str,
        report: Callable[[float], None] | None,
        use_lower_bound: bool,
    ) -> None:
        self.attempt, self.split, self.max_drop = attempt, split, max_drop
        self.device, self.report, self.use_lower_bound = device, report, use_lower_bound
        self.expected = predict(materialize(original), split, device)
        self.passed: _Passed | None = None
        self.last = Interval(value=0.0, low=0.0, high=0.0, n=0)
        self.tried = 0

    def accepts(self, amount: float) -> bool:
        """Whether the amount passes, by as few images as decide it."""
        model = self._make(amount)
        if model is None:
            return False
        for difference in self._looks(model):
            self.last = difference
            complete = self.last.n == len(self.split)
            decided = decide_from_interval(self.last, self.max_drop, complete, self.use_lower_bound)
            if decided:
                self.passed = _Passed(amount, model, self.last)
            if decided is not None:
                return decided
        raise AssertionError("the look at all images decides")

    def holds(self, amount: float) -> bool:
        """Whether the amount passes on all images."""
        known = self.passed if self.passed and self.passed.amount == amount else None
        model = known.model if known else self._make(amount)
        if model is None:
            return False
        if known and known.difference.n == len(self.split):
            self.last = known.difference
        else:
            *_, self.last = self._looks(model)
        if not decide_from_interval(self.last, self.max_drop, True, self.use_lower_bound):
            return False
        self.passed = _Passed(amount, model, self.last)
        return True

    def _make(self, amount: float) -> nn.Module | None:
        if self.report:
            self.report(min(self.tried / _ATTEMPTS, 0.99))
        self.tried += 1
        try:
            return self.attempt(amount)
        except InvalidInput:
            if amount == 0:
                raise
            return None

    def _looks(self, model: nn.Module) -> Iterator[Interval]:
        """The difference on the first images, on more of them, and on all."""
        # A copy, for predicting leaves a model's masks unfit for training.
        twin, gained, lost, seen = materialize(model), 0, 0, 0
        ends = [n for n in CHECKPOINT_SIZES if n < len(self.split)]
        for end in (*ends, len(self.split)):
            part = replace(
                self.split,
                images=self.split.images[seen:end],
                labels=self.split.labels[seen:end],
            )
            before = replace(
                self.expected,
                logits=self.expected.logits[seen:end],
                labels=self.expected.labels[seen:end],
            )
            changed = flips(before, predict(twin, part, self.device))
            gained, lost = gained + changed.wrong_to_right, lost + changed.right_to_wrong
            seen = end
            yield paired_difference(gained, lost, seen)


# A drop of exactly what is allowed must not fail by the last bit of a division.
_ROUNDING = 1e-12


def largest(
    accept: Callable[[float], bool], low: float, high: float, tolerance: float
) -> float | None:
    """An accepted amount of `low + k * tolerance`, at most `high`, of which the next is refused.

    The largest of all if `accept` is monotone; None if even `low` is refused. Every amount is
    asked for at most once, and about log2((high - low) / tolerance) of them are.

    Raises:
        ValueError: high is less than low, or the tolerance is not positive.
    """
    if not (high >= low and tolerance > 0):
        raise ValueError(
            f"low {low}, high {high}, tolerance {tolerance}: low <= high, 0 < tolerance"
        )
    steps = math.floor((high - low) / tolerance + 1e-9)

    def amount(step: int) -> float:
        # without the digits that only floating point puts there
        return float(f"{min(low + step * tolerance, high):.12g}")

    accepted, refused = -1, steps + 1
    while refused - accepted > 1:
        middle = (accepted + refused) // 2
        if accept(amount(middle)):
            accepted = middle
        else:
            refused = middle
    return amount(accepted) if accepted >= 0 else None


def decide_from_interval(
    difference: Interval, max_drop: float, complete: bool, use_lower_bound: bool = False
) -> bool | None:
    """Whether a difference of accuracies is a drop of at most `max_drop`; None if not yet clear.

    All are fractions. The whole interval must lie on one side, unless all images there are have
    been seen (`complete`): then the measured difference itself decides, or, where the drop must be
    allowed `use_lower_bound`, the worse end of its interval.
    """
    if complete:
        return (difference.low if use_lower_bound else difference.value) >= -max_drop - _ROUNDING
    if difference.low >= -max_drop:
        return True
    return False if difference.high < -max_drop else None
