"""What a recipe needs of a model, looked at before the model is even loaded."""

from __future__ import annotations

from pydantic import BaseModel

from compression.catalogue.channel_support import require_channels
from compression.errors import InvalidInput
from compression.recipe.calibration_need import needs_images
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize


def first_setting_needing_images(step: BaseModel) -> tuple[str, object] | None:
    """The first setting of a step that needs images to calibrate on, and its value as given."""
    need = next(((name, value) for name, value in step if needs_images(name, value)), None)
    if need is None:
        return None
    name, value = need
    return name, ",".join(value) if isinstance(value, tuple) else value


def without_images(model: str, setting: str, value: object) -> InvalidInput:
    """The error for a setting that needs images where a model has none."""
    return InvalidInput(
        setting, value, f"a model with images to calibrate on; {model} has none here"
    )


def require_applicable(
    recipe: Recipe, name: str, architecture: str | None, *, has_images: bool
) -> None:
    """Refuse a recipe that a model cannot have.

    Args:
        recipe: the steps asked for.
        name: what the model is called in messages.
        architecture: what the steps work on, the student's where there is one; None if unknown.
        has_images: whether there are labelled images for the model.

    Raises:
        InvalidInput: a setting needs images and there are none, no channels can be removed, or a
            step needs the statistics of batch norms that a step before it has taken away.
    """
    indices = [
        i for i, s in enumerate(recipe.steps) if isinstance(s, Quantize) and s.rate_distortion
    ]
    for step in recipe.steps[indices[0] + 1 :] if indices else ():
        if not (isinstance(step, Distill) and step.batchnorm == "frozen"):
            allowed = "after a quantize step with rd_lambda or keep_accuracy, only distill with "
            allowed += "batchnorm frozen: its batch norms no longer have statistics"
            raise InvalidInput("steps", step.step, allowed)
    for step in recipe.steps:
        if not has_images and (need := first_setting_needing_images(step)):
            raise without_images(name, *need)
        if isinstance(step, Prune) and step.pattern == "channels" and architecture is not None:
            require_channels(architecture)
