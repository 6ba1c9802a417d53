"""The distillation step: which student, which teacher, and which images."""

from __future__ import annotations

import copy

import torch
from torch import nn

from compression.data.splits import Split
from compression.errors import InvalidInput
from compression.measure.accuracy import predict
from compression.methods.calibration.step_context import StepContext, StepResult
from compression.methods.distill.config import TrainingConfig
from compression.methods.distill.loop import distill
from compression.models.load import build
from compression.models.target import Target
from compression.recipe.steps import Distill
from compression.runs.statistics import Interval, proportion

STATISTICS_IMAGES = 1000


def distill_step(model: nn.Module, step: Distill, context: StepContext) -> StepResult:
    """Train `model`, in place, or the step's student instead; the original is the teacher.

    Validation checks are on the search half of the validation images.

    Raises:
        InvalidInput: there are no images to learn from, or the student cannot be had.
    """
    data = context.data
    if data is None:
        raise InvalidInput(
            "distill",
            context.target.name,
            "a model with a data set to learn from: fashion-mnist/...",
        )
    student = model
    if step.student is not None and context.target.student is not None:
        student = _student(context.target.student, step, context.seed)
    config = TrainingConfig(
        step=step,
        train=data.train,
        validate=lambda trained: _accuracy(trained, data.search, context.device),
        seed=context.seed,
        calibration=context.images("distill", step, STATISTICS_IMAGES),
        device=context.device,
        at=context.at,
        report=context.watch,
        checkpoint=context.checkpoint,
    )
    outcome = distill(student, context.original, config)
    return StepResult(student, outcome.notes, outcome.curve, outcome.stopped)


def _student(student: Target, step: Distill, seed: int) -> nn.Module:
    if step.initial == "own":
        return copy.deepcopy(student.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(str(student.architecture), student.classes)


def _accuracy(model: nn.Module, split: Split, device: str) -> Interval:
    predictions = predict(model, split, device)
    return proportion(int(predictions.right.sum()), len(split))
