"""Presets: how much effort to spend, as settings of how each step works. No torch.

A preset never says how much: amounts, bit widths and patterns are the user's. Explicit settings
take precedence, and what is not compatible with them is left at its default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compression.errors import InvalidInput
from compression.recipe.calibration_need import NO_IMAGES, needs_images
from compression.recipe.fields import settings
from compression.recipe.inactive_fields import is_compatible
from compression.recipe.recipe import Recipe
from compression.recipe.steps import STEPS


@dataclass(frozen=True)
class Preset:
    """Settings for each kind of step. `calibrates` says that it needs images to calibrate on."""

    name: str
    title: str
    description: str
    calibrates: bool
    values: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class WholeRecipe:
    """A complete recipe, as the settings of its steps."""

    name: str
    title: str
    description: str
    steps: tuple[Mapping[str, Any], ...]


_REPAIR = ("batchnorm", "bias")
# In a few epochs a compressed model recovers more on the images it was compressed on.
_DISTILL: dict[str, Any] = {"augmentation": "none"}
_BETTER: dict[str, dict[str, Any]] = {
    "prune": {"scope": "allocated", "score": "obs", "update": "obs", "repair": _REPAIR},
    "quantize": {"rounding": "gptq", "repair": _REPAIR},
    "distill": _DISTILL,
}
PRESETS: dict[str, Preset] = {
    "fast": Preset(
        "fast",
        "Fast",
        "Magnitude pruning and round-to-nearest quantization.",
        False,
        {"prune": {"repair": _REPAIR}, "quantize": {"repair": _REPAIR}, "distill": _DISTILL},
    ),
    "better": Preset(
        "better",
        "Better",
        "OBS pruning and GPTQ: the remaining weights compensate for the error.",
        True,
        _BETTER,
    ),
    "best": Preset(
        "best",
        "Best",
        "As Better, then quantized weights are tuned block by block to match the original.",
        True,
        {**_BETTER, "quantize": {**_BETTER["quantize"], "rounding": "reconstruct"}},
    ),
}
# Recipes that say how much as well: `--preset NAME` alone. What OBS prunes at nearly no cost goes
# first: choosing mask and codes at once finds worse ones. The fraction kept is more than 99 %, with
# a margin, because two searches on the same validation images also overfit these: up to 0.7 points
# of 93 were seen to be missing on the test images.
WHOLE: dict[str, WholeRecipe] = {
    "smallest": WholeRecipe(
        "smallest",
        "The smallest file",
        "Prunes and quantizes as far as at least 99 % of the accuracy is kept, without training.",
        (
            {"step": "prune", "max_drop": 0.1, **_BETTER["prune"]},
            {
                "step": "quantize",
                "other_dtype": "float16",
                "keep_accuracy": 0.993,
                "margin": "interval",
            },
        ),
    ),
}
# OBS scores single weights; among the channel scores this one was best on validation images.
_FOR_CHANNELS: dict[str, Any] = {"score": "taylor"}
# What the page starts with, and the name of a recipe that fits several.
DEFAULT_PRESET = "fast"


def method_settings(step: str) -> tuple[str, ...]:
    """The settings of a kind of step that say how it works, which a preset decides."""
    return tuple(s.name for s in settings(STEPS[step]) if s.by_preset)


def merge(step: str, values: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """These values of a step, and of those wanted beside them whatever is compatible."""
    merged = dict(values)
    for name, value in wanted.items():
        if name not in merged and is_compatible(step, merged, name, value):
            merged[name] = value
    return merged


def apply_preset(name: str, values: Mapping[str, Any], *, images: bool = True) -> dict[str, Any]:
    """The settings of a step with those of a preset added.

    Args:
        name: The preset's.
        values: What is set explicitly, by the settings' names, and the kind of step as `step`.
        images: Whether there are any to calibrate on; without, what needs them is left out.

    Raises:
        InvalidInput: there is no such preset, or it needs images and there are none.
    """
    if name not in PRESETS:
        raise InvalidInput("preset", name, ", ".join(PRESETS))
    preset = PRESETS[name]
    if preset.calibrates and not images:
        raise InvalidInput("preset", name, f"{', '.join(available(False))}: {NO_IMAGES}")
    step = str(values["step"])
    wanted = preset.values.get(step, {})
    if values.get("pattern") == "channels" and preset.calibrates:
        wanted = {**wanted, **_FOR_CHANNELS}
    wanted = {k: v for k, v in wanted.items() if images or not needs_images(k, v)}
    return merge(step, values, wanted)


def available(images: bool) -> tuple[str, ...]:
    """The presets that can be had with images, or without."""
    return tuple(p.name for p in PRESETS.values() if images or not p.calibrates)


def preset_of(recipe: Recipe, *, images: bool = True, first: str | None = None) -> str | None:
    """The preset whose settings this recipe has; None if there is none.

    Where several fit, `first` is it, or else the default one.
    """
    names = [n for n in (first, DEFAULT_PRESET, *PRESETS) if n in available(images)]
    return next((n for n in names if n and _makes(n, recipe, images)), None)


def _makes(name: str, recipe: Recipe, images: bool) -> bool:
    for step in recipe.steps:
        governed = method_settings(step.step)
        values = {k: v for k, v in step if k not in governed and v is not None}
        if STEPS[step.step].model_validate(apply_preset(name, values, images=images)) != step:
            return False
    return True


def as_flags(preset: Preset) -> dict[str, tuple[str, ...]]:
    """What a preset sets for each kind of step, as flags of the command line."""
    return {step: tuple(_flags(step, values.items())) for step, values in preset.values.items()}


def _flags(step: str, values: Iterable[tuple[str, Any]]) -> Iterable[str]:
    flags = {s.name: s.flag for s in settings(STEPS[step])}
    for name, value in values:
        yield f"{flags[name]} {','.join(value) if isinstance(value, tuple) else value}"
