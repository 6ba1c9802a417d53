"""Architectures from which no channels can be removed, and why; no torch, so that a page can say.

What is listed here was tried: with torch-pruning 1.6.1, half the channels of every layer.
"""

from __future__ import annotations

from compression.errors import InvalidInput

_SHUFFLED = "torch-pruning cannot follow its channel shuffle"
_WINDOWED = "torch-pruning cannot follow its shifted windows"
UNSUPPORTED: dict[str, str] = {
    "shufflenet_v2_x0_5": _SHUFFLED,
    "shufflenet_v2_x1_0": _SHUFFLED,
    "shufflenet_v2_x1_5": _SHUFFLED,
    "shufflenet_v2_x2_0": _SHUFFLED,
    "swin_t": _WINDOWED,
    "swin_s": _WINDOWED,
    "swin_b": _WINDOWED,
    "swin_v2_t": _WINDOWED,
    "swin_v2_s": _WINDOWED,
    "swin_v2_b": _WINDOWED,
    "maxvit_t": _WINDOWED,
}


def channels_supported(architecture: str) -> str | None:
    """Why no channels can be removed from models of an architecture; None when they can."""
    return UNSUPPORTED.get(architecture)


def require_channels(architecture: str) -> None:
    """Refuse an architecture from which no channels can be removed, before anything is spent.

    Raises:
        InvalidInput: naming the architecture and the reason.
    """
    if reason := channels_supported(architecture):
        raise refusal(architecture, reason)


def refusal(architecture: str, reason: str) -> InvalidInput:
    """The error for a model from which no channels can be removed."""
    return InvalidInput("pattern", "channels", f"other patterns for {architecture}, for {reason}")
