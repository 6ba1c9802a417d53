"""As much compression as accuracy allows, found by bisection on paired evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import nn

from compression.data.splits import Split
from compression.errors import InvalidInput
from compression.measure.accuracy import flips, predict
from compression.methods.calibration.bisection import decide_from_interval, largest_accepted
from compression.models.parametrize import materialize
from compression.runs.statistics import Interval, paired_difference

LARGEST = 0.999
RESOLUTION = 0.0025
# Images after which the interval may decide; then all of them.
CHECKPOINT_SIZES = (500, 1250)
# Bisection of 400 steps, and a last check on all images.
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

    Accuracy of the result on these images is too good by chance: report it on others.

    Args:
        attempt: gives the model compressed by an amount; where it raises `InvalidInput` above 0,
            that amount is refused.
        original: the model that accuracy is compared with, image by image.
        split: the images to search on.
        max_drop_points: the largest drop of top-1 accuracy, in percentage points.
        report: gets the fraction done.
        amounts: what is searched.
        use_lower_bound: the worse end of the drop's 95 % interval must be within what is allowed,
            and not only the drop as measured.

    Returns:
        The amount, its model, and a sentence with the interval. The model was measured on all
        images of the split; one step more was refused.

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
    amount = largest_accepted(search.accepts, 0.0, amounts.largest, step)
    if amount is None or not search.passes_on_all(amount):
        # Where fewer images erred, and before refusing all, only what all images say counts.
        amount = largest_accepted(search.passes_on_all, 0.0, max(0.0, (amount or 0.0) - step), step)
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
    difference = passed.difference
    value, low, high = (100 * v for v in (difference.value, difference.low, difference.high))
    return (
        f"Bisection found {amounts.words(passed.amount)}, at which accuracy changes by "
        f"{value:+.2f} points on the {difference.n:,} images that it looked at (95 % interval "
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
        for difference in self._differences(model):
            self.last = difference
            complete = self.last.n == len(self.split)
            decided = decide_from_interval(self.last, self.max_drop, complete, self.use_lower_bound)
            if decided:
                self.passed = _Passed(amount, model, self.last)
            if decided is not None:
                return decided
        raise AssertionError("all images decide")

    def passes_on_all(self, amount: float) -> bool:
        """Whether the amount passes on all images."""
        before = self.passed if self.passed and self.passed.amount == amount else None
        model = before.model if before else self._make(amount)
        if model is None:
            return False
        if before and before.difference.n == len(self.split):
            self.last = before.difference
        else:
            *_, self.last = self._differences(model)
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

    def _differences(self, model: nn.Module) -> Iterator[Interval]:
        """The difference on the first images, on more of them, and on all."""
        # A copy, for predicting leaves a model's masks unfit for training.
        plain, gained, lost, start = materialize(model), 0, 0, 0
        ends = [n for n in CHECKPOINT_SIZES if n < len(self.split)]
        for end in (*ends, len(self.split)):
            part = self.split.part(start, end)
            before = replace(
                self.expected,
                logits=self.expected.logits[start:end],
                labels=self.expected.labels[start:end],
            )
            changed = flips(before, predict(plain, part, self.device))
            gained, lost = gained + changed.wrong_to_right, lost + changed.right_to_wrong
            start = end
            yield paired_difference(gained, lost, end)
