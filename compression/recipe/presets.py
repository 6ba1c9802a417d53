"""Presets: what a person wants, as settings of how each step works. No torch.

A preset never says how much: amounts, bit widths and patterns are the person's own. Explicit
settings win over it, and what does not go with them is left at its default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compression.errors import InvalidInput
from compression.recipe.calibration_need import NO_IMAGES, needs_images
from compression.recipe.distill import Distill
from compression.recipe.fields import settings
from compression.recipe.inactive_fields import is_compatible
from compression.recipe.recipe import Recipe
from compression.recipe.steps import STEPS


@dataclass(frozen=True)
class Preset:
    """Settings for each kind of step. `calibrates` says that it cannot work without images."""

    name: str
    title: str
    description: str
    calibrates: bool
    values: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class WholeRecipe:
    """A whole recipe, made of the settings of its steps."""

    name: str
    title: str
    description: str
    steps: tuple[Mapping[str, Any], ...]


_REPAIR = ("batchnorm", "bias")
# In a few epochs a compressed model wins back more of images that it was made for.
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
        "The smallest weights go, the rest are rounded to the nearest value.",
        False,
        {"prune": {"repair": _REPAIR}, "quantize": {"repair": _REPAIR}, "distill": _DISTILL},
    ),
    "better": Preset(
        "better",
        "Better",
        "The least important weights go, and those that stay make up for what is lost.",
        True,
        _BETTER,
    ),
    "best": Preset(
        "best",
        "Best",
        "As Better, and quantized weights are tuned until each block answers as before.",
        True,
        {**_BETTER, "quantize": {**_BETTER["quantize"], "rounding": "reconstruct"}},
    ),
}
# Recipes that say how much as well: `--preset NAME` alone. What OBS takes nearly for free goes
# first: choosing which weights stay and how they are rounded at once finds worse ones. The share
# kept is more than 99 %, with a margin, for what two searches find on the same validation images is
# also lucky there: up to 0.7 points of 93 were seen to be missing on the test images.
WHOLE: dict[str, WholeRecipe] = {
    "smallest": WholeRecipe(
        "smallest",
        "The smallest file",
        "Weights go and take as few bits as keep at least 99 % of the accuracy, without training.",
        (
            {"step": "prune", "max_drop": 0.1, **_BETTER["prune"]},
            {"step": "quantize", "rest": "float16", "keep_accuracy": 0.993, "margin": "interval"},
        ),
    ),
}
# OBS scores single weights; of the scores of channels this one was best on validation images.
_FOR_CHANNELS: dict[str, Any] = {"score": "taylor"}
# What the page starts with, and what a recipe is called that fits several.
DEFAULT_PRESET = "fast"

# What is asked for, rather than how it is done: no preset touches these.
AMOUNT_SETTINGS = {
    "prune": ("threshold", "sparsity", "max_drop", "pattern", "round_to"),
    "quantize": (
        "bits",
        "edge_bits",
        "average_bits",
        "activation_bits",
        "rest",
        "rate",
        "keep_accuracy",
        "margin",
    ),
    "distill": tuple(name for name in Distill.model_fields if name not in _DISTILL),
}


def method_settings(step: str) -> tuple[str, ...]:
    """The settings of a kind of step that say how it works, which a preset decides."""
    asked = AMOUNT_SETTINGS.get(step)
    return tuple(s.name for s in settings(STEPS[step]) if s.name not in asked) if asked else ()


def merge(step: str, given: Mapping[str, Any], wished: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and of what is wished whatever goes with it."""
    found = dict(given)
    for name, value in wished.items():
        if name not in found and is_compatible(step, found, name, value):
            found[name] = value
    return found


def apply_preset(name: str, values: Mapping[str, Any], *, images: bool = True) -> dict[str, Any]:
    """The settings of a step, `values["step"]` among them, with those of a preset added.

    Without images, what needs them is left out.

    Raises:
        InvalidInput: there is no such preset, or it needs images and there are none.
    """
    if name not in PRESETS:
        raise InvalidInput("preset", name, ", ".join(PRESETS))
    preset = PRESETS[name]
    if preset.calibrates and not images:
        raise InvalidInput("preset", name, f"{', '.join(available(False))}: {NO_IMAGES}")
    step = str(values["step"])
    wished = preset.values.get(step, {})
    if values.get("pattern") == "channels" and preset.calibrates:
        wished = {**wished, **_FOR_CHANNELS}
    return merge(
        step, values, {k: v for k, v in wished.items() if images or not needs_images(k, v)}
    )


def available(images: bool) -> tuple[str, ...]:
    """The presets that can be had with images, or without."""
    return tuple(p.name for p in PRESETS.values() if images or not p.calibrates)


def preset_of(recipe: Recipe, *, images: bool = True, first: str | None = None) -> str | None:
    """The preset that makes this recipe of what it asks for; None if none does.

    Where several do, `first` is it, or else the default one.
    """
    names = [n for n in (first, DEFAULT_PRESET, *PRESETS) if n in available(images)]
    return next((n for n in names if n and _makes(n, recipe, images)), None)


def _makes(name: str, recipe: Recipe, images: bool) -> bool:
    for step in recipe.steps:
        how = method_settings(step.step)
        asked = {k: v for k, v in step if k not in how and v is not None}
        if STEPS[step.step].model_validate(apply_preset(name, asked, images=images)) != step:
            return False
    return True


def as_flags(preset: Preset) -> dict[str, tuple[str, ...]]:
    """What a preset sets for each kind of step, as flags of the command line."""
    return {step: tuple(_flags(step, values.items())) for step, values in preset.values.items()}


def _flags(step: str, values: Iterable[tuple[str, Any]]) -> Iterable[str]:
    flags = {s.name: s.flag for s in settings(STEPS[step])}
    for name, value in values:
        yield f"{flags[name]} {','.join(value) if isinstance(value, tuple) else value}"
