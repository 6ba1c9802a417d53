"""The teacher's logits of images that look the same in every epoch: computed once."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from compression.data.splits import Split
from compression.methods.distill.mixed_precision import arithmetic

_AT_ONCE = 256
# For as long as the teacher lives.
_KEPT: WeakKeyDictionary[nn.Module, dict[tuple[int, torch.dtype, str], Tensor]] = (
    WeakKeyDictionary()
)


@torch.no_grad()
def teacher_logits(
    train: Split, teacher: nn.Module, dtype: torch.dtype, before_each: Callable[[], None]
) -> Tensor:
    """Logits [n, classes] of training images, which lie on the device, with products in `dtype`.

    `before_each` is called before every batch, and may raise to end it.
    """
    kept = _KEPT.setdefault(teacher, {})
    device = train.images.device.type
    key = (len(train), dtype, device)
    if key not in kept:
        parts = []
        with arithmetic(device, dtype):
            for part in train.images.split(_AT_ONCE):
                before_each()
                parts.append(teacher(train.prepare(part)).float())
        kept[key] = torch.cat(parts)
    return kept[key]
