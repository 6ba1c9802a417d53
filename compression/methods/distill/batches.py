"""The training images, batch by batch: shuffled anew in every epoch, augmented, mixed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torchvision.transforms import v2

from compression.data.augmentation import augmented
from compression.data.splits import Split
from compression.recipe.steps import Distill


class Batches:
    """What a student sees, step by step.

    `order` holds the shuffled places of the epoch under way, int64 [images], and `generator` makes
    the next: with these two a training that was interrupted goes on with the same batches.
    """

    def __init__(self, train: Split, step: Distill, classes: int, seed: int, device: str) -> None:
        used = train if step.images is None else train.head(step.images)
        self.images, self.labels = used.images.to(device), used.labels.to(device)
        self.used = replace(used, images=self.images, labels=self.labels)
        self.size = min(step.batch_size, len(used))
        self.per_epoch = len(used) // self.size
        self.random = step.augmentation == "random"
        self.mixup = v2.MixUp(alpha=step.mixup, num_classes=classes) if step.mixup else None
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)

    @property
    def fixed(self) -> bool:
        """Whether an image looks the same in every epoch."""
        return not self.random and self.mixup is None

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Places int64 [n], prepared images [n, 3, h, w], and labels of a step, in turn.

        Labels are int64 [n], or shares [n, classes] where images were mixed.
        """
        place = step % self.per_epoch
        if place == 0:
            self.order = torch.randperm(len(self.images), generator=self.generator)
        picked = self.order[place * self.size : (place + 1) * self.size].to(self.images.device)
        images, targets = self.images[picked], self.labels[picked]
        if self.random:
            images = augmented(self.used, images, self.generator)
        images = self.used.prepare(images)
        if self.mixup is not None:
            images, targets = self.mixup(images, targets)
        return picked, images, targets
