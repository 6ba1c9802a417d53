"""Which settings of a step have no effect beside its others, as the settings themselves declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from compression.recipe.fields import settings
from compression.recipe.steps import STEPS


def inactive_reasons(step: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The settings that have no effect beside these values, and why in one sentence.

    Args:
        step: The kind of step.
        values: By the settings' names, those left out being at their defaults.
    """
    declared = settings(STEPS[step])
    whole = {s.name: s.default for s in declared} | dict(values)
    reasons = ((s.name, s.inactive_reason(whole)) for s in declared)
    return {name: reason for name, reason in reasons if reason is not None}


def is_compatible(step: str, values: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether a setting has an effect beside these values, and this value is not refused."""
    if name in inactive_reasons(step, values):
        return False
    try:
        STEPS[step].model_validate({**values, "step": step, name: value})
    except ValidationError:
        return False
    return True
