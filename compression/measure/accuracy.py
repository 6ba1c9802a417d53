"""Accuracy with intervals, and paired comparison on the same images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compression.models.data import BATCH, Split, prepare
from compression.runs.statistics import Flips, Interval, paired_difference, proportion


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
