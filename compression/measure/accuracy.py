"""Accuracy with intervals, and paired comparison on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compression.models.data import Split, prepare
from compression.runs.results import Flips, Interval

BATCH = 250
_Z = 1.959963984540054


@dataclass(frozen=True)
class Predictions:
    """Logits, float32 [n, classes], and labels, int64 [n], of the same images in the same order."""

    logits: Tensor
    labels: Tensor

    @property
    def classes(self) -> Tensor:
        """Predicted class of each image, int64 [n]."""
        return self.logits.argmax(1)

    @property
    def right(self) -> Tensor:
        """Whether each prediction is right, bool [n]."""
        return self.classes == self.labels


def proportion(successes: int, n: int) -> Interval:
    """A proportion with its 95 % score interval (Wilson, 1927). `n` must be positive."""
    p, z2 = successes / n, _Z * _Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # at 0 and n the bound is exact in mathematics but not in floating point
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(value=p, low=low, high=high, n=n)


def paired_difference(gained: int, lost: int, n: int) -> Interval:
    """Difference of two proportions on the same `n` images, with its 95 % interval.

    `gained` were wrong and became right, `lost` were right and became wrong. Wald interval with
    half an observation added to each of the four cells (Agresti and Min, 2005).
    """
    size, up, down = n + 2, gained + 0.5, lost + 0.5
    centre = (up - down) / size
    half = _Z * math.sqrt((up + down) - (up - down) ** 2 / size) / size
    value = (gained - lost) / n
    return Interval(
        value=value,
        low=max(-1.0, min(value, centre - half)),
        high=min(1.0, max(value, centre + half)),
        n=n,
    )


def predict(
    model: nn.Module,
    split: Split,
    device: str = "cpu",
    report: Callable[[float], None] | None = None,
) -> Predictions:
    """Predictions of a model on a split, in stored order; `report` gets the fraction done.

    channels_last, which on a CPU is faster than the default layout for every bundled model.
    """
    # not in inference mode: a model that is taught could not be trained on with tensors from there
    model = model.to(device).to(memory_format=torch.channels_last).eval()
    logits = []
    with torch.inference_mode():
        for start in range(0, len(split), BATCH):
            x = prepare(split.images[start : start + BATCH].to(device))
            logits.append(model(x).float().cpu())
            if report:
                report(min(1.0, (start + BATCH) / len(split)))
    return Predictions(torch.cat(logits), split.labels)


def flips(before: Predictions, after: Predictions) -> Flips:
    """How many predictions went from right to wrong and from wrong to right."""
    return Flips(
        right_to_wrong=int((before.right & ~after.right).sum()),
        wrong_to_right=int((~before.right & after.right).sum()),
    )


def agreement(before: Predictions, after: Predictions) -> float:
    """Fraction of the images on which both predict the same class, right or wrong."""
    return float((before.classes == after.classes).float().mean())


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images; `change` is the second's top-1 minus the first's."""

    before: Interval
    after: Interval
    change: Interval
    flips: Flips
    agreement: float


def compare(before: Predictions, after: Predictions) -> Comparison:
    """Top-1 of both, and what changed, paired image by image."""
    n, changed = len(after.labels), flips(before, after)
    return Comparison(
        before=proportion(int(before.right.sum()), n),
        after=proportion(int(after.right.sum()), n),
        change=paired_difference(changed.wrong_to_right, changed.right_to_wrong, n),
        flips=changed,
        agreement=agreement(before, after),
    )
