"""The arithmetic of a training: float32, or products in bfloat16 where these are quicker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@contextmanager
def arithmetic(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Products in `dtype`, bfloat16 or float32; everything else stays as it is."""
    low = dtype == torch.bfloat16
    apart = _DepthwiseApart() if low and device == "cpu" else nullcontext()
    with torch.autocast(device, torch.bfloat16, enabled=low), apart:
        yield


class _DepthwiseApart(TorchFunctionMode):
    """Keeps depthwise convolutions that are trained in float32: on a CPU the gradient of one in
    bfloat16 takes several times as long."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if function is not F.conv2d or not torch.is_grad_enabled() or not _depthwise(*args):
            return function(*args, **given)
        images, *rest = args
        with torch.autocast("cpu", enabled=False):
            return function(images.float(), *rest, **given).to(torch.bfloat16)


def _depthwise(images: torch.Tensor, weight: torch.Tensor, *rest: Any) -> bool:
    return weight.shape[1] == 1 and images.shape[1] > 1
