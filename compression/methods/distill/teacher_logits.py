"""The teacher's logits of images that look the same in every epoch: computed once."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from compression.methods.distill.mixed_precision import arithmetic
from compression.models.data import prepare

_AT_ONCE = 256
# For as long as the teacher lives.
_KEPT: WeakKeyDictionary[nn.Module, dict[tuple[int, torch.dtype, str], Tensor]] = (
    WeakKeyDictionary()
)


@torch.no_grad()
def teacher_logits(
    images: Tensor, teacher: nn.Module, dtype: torch.dtype, before_each: Callable[[], None]
) -> Tensor:
    """Logits [n, classes] of the first n training images, unprepared, with products in `dtype`.

    `before_each` is called before every batch, and may raise to end it.
    """
    kept = _KEPT.setdefault(teacher, {})
    device = images.device.type
    key = (len(images), dtype, device)
    if key not in kept:
        parts = []
        with arithmetic(device, dtype):
            for part in images.split(_AT_ONCE):
                before_each()
                parts.append(teacher(prepare(part)).float())
        kept[key] = torch.cat(parts)
    return kept[key]
