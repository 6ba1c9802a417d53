"""Accuracy with intervals, and paired comparison on the same images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compression.data.splits import Split
from compression.models.activation_memory import images_at_once
from compression.models.placement import evaluating, placed
from compression.models.target import Target
from compression.runs.durations.stages import ORIGINAL
from compression.runs.progress import Report, stage
from compression.runs.statistics import Flips, Interval, paired_difference, proportion

KEPT_PREDICTIONS = 4


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
    """Predictions of a model on a split, in stored order.

    The caller's model stays where it is and in its mode; a copy runs where it lies elsewhere.

    Args:
        model: logits float32 [n, classes] for prepared images [n, c, h, w].
        split: images as stored, and labels.
        device: `cpu` or `cuda`, where the model runs; what it gives comes back to the CPU.
        report: gets the fraction done.
    """
    # not in inference mode: a copy with tensors from there could not be trained
    here = placed(model, device)
    logits = []
    with evaluating(here), torch.inference_mode():
        size = images_at_once(here, split.head(1).prepared(device))
        for start in range(0, len(split), size):
            x = split.prepare(split.images[start : start + size].to(device))
            logits.append(here(x).float().cpu())
            if report:
                report(min(1.0, (start + size) / len(split)))
    return Predictions(torch.cat(logits), split.labels)


_predictions: OrderedDict[tuple[object, ...], Predictions] = OrderedDict()


def original_predictions(target: Target, split: Split, report: Report | None = None) -> Predictions:
    """The original's predictions on a split; those asked for last are kept.

    Args:
        target: its original model runs on its device.
        split: images as stored.
        report: gets the stage and the fraction done.
    """
    images = target.data.id if target.data else None
    key = (target.identity, images, split.name, len(split), target.device)
    if key not in _predictions:
        tell = stage(report, ORIGINAL)
        _predictions[key] = predict(target.on_device, split, target.device, tell)
    _predictions.move_to_end(key)
    while len(_predictions) > KEPT_PREDICTIONS:
        _predictions.popitem(last=False)
    return _predictions[key]


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
