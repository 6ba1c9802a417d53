"""Which settings can only be had with images to calibrate on, as they themselves declare."""

from __future__ import annotations

from typing import Any

from compression.recipe.fields import settings
from compression.recipe.steps import STEPS

NO_IMAGES = "the others need images to calibrate on, and this model has none here"


def needs_images(name: str, value: Any) -> bool:
    """Whether this value of a setting, in any step, can only be had with images to calibrate on."""
    declared = (s for step in STEPS.values() for s in settings(step) if s.name == name)
    return any(s.needs_images(value) for s in declared)
