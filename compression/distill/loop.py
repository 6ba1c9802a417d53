"""The training loop. Masks and grids are parametrizations, so what is zero stays zero."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from compression.data import Split, shuffled_batches
from compression.distill.losses import distillation_loss
from compression.errors import CompressionError

BATCH = 128
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4


def distill(
    student: nn.Module,
    teacher: nn.Module,
    split: Split,
    *,
    temperature: float,
    alpha: float,
    epochs: int,
    learning_rate: float,
    seed: int,
    device: str = "cpu",
    report: Callable[[float], None] | None = None,
) -> None:
    """Train `student` in place to answer like `teacher` on augmented images of `split`.

    Nesterov momentum; the learning rate falls to zero along a cosine (Loshchilov and Hutter,
    2017). `report` gets the fraction done after every step and may raise to stop.

    Raises:
        CompressionError: the loss is no longer a number.
    """
    student.to(device).to(memory_format=torch.channels_last).train()
    teacher.to(device).to(memory_format=torch.channels_last).eval()
    optimizer = torch.optim.SGD(
        student.parameters(),
        learning_rate,
        momentum=MOMENTUM,
        nesterov=True,
        weight_decay=WEIGHT_DECAY,
    )
    steps = epochs * max(1, len(split) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    step = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout
        for _ in range(epochs):
            for images, labels in shuffled_batches(split, BATCH, generator):
                images, labels = images.to(device), labels.to(device)
                logits = None
                if alpha > 0:
                    with torch.no_grad():
                        logits = teacher(images)
                loss = distillation_loss(student(images), logits, labels, temperature, alpha)
                if not math.isfinite(value := loss.item()):
                    raise CompressionError(
                        f"distillation: the loss became {value} at step {step + 1} of {steps} with "
                        f"learning rate {schedule.get_last_lr()[0]:.3g}; try a lower learning_rate"
                    )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                step += 1
                if report:
                    report(step / steps)
    student.eval()
