"""Which settings can only be had with images to calibrate on."""

from __future__ import annotations

from typing import Any

_IMAGES: dict[str, tuple[str, ...] | None] = {
    "max_drop": None,
    "average_bits": None,
    "activation_bits": None,
    "rate": None,
    "keep_accuracy": None,
    "repair": None,
    "scope": ("allocated",),
    "score": ("activation", "taylor", "fisher", "obs"),
    "update": ("obs",),
    "rounding": ("gptq", "reconstruct"),
}


def needs_images(name: str, value: Any) -> bool:
    """Whether this value of a setting can only be had with images to calibrate on."""
    if name not in _IMAGES or value in (None, ()) or (name == "rate" and not value):
        return False
    values = _IMAGES[name]
    return values is None or value in values


NO_IMAGES = "the others need images to calibrate on, and this model has none here"
