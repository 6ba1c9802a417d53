"""Flags of steps, made from the recipe's fields, and the recipe they ask for."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from compression.catalogue.examples import names, recipe_for
from compression.errors import InvalidInput
from compression.recipe.calibration_need import NO_IMAGES
from compression.recipe.fields import Setting, settings
from compression.recipe.presets import (
    PRESETS,
    WHOLE,
    apply_preset,
    available,
)
from compression.recipe.recipe import Recipe, parse, read_recipe
from compression.recipe.steps import STEPS

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, nothing else.")]
StoreUrl = Annotated[
    str | None, typer.Option("--store", help="Where runs are kept: an SQLAlchemy URL.")
]
RunId = Annotated[str, typer.Argument(help="A run's id, or its first characters.", metavar="RUN")]
ModelId = Annotated[
    str, typer.Argument(help="An id listed by `compression models`.", metavar="MODEL")
]
RecipeFile = Annotated[Path | None, typer.Option(help="Steps from a JSON file.")]
PresetName = Annotated[
    str | None,
    typer.Option(
        help="How each step works, as `compression presets` lists; other flags win over it. "
        "Or a whole recipe: the smallest file without training, or an example.",
        metavar="|".join((*PRESETS, *WHOLE, *names())),
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int | None, typer.Option(help="Fixes all randomness; 0 if not given.")]


def _flag(setting: Setting) -> inspect.Parameter:
    default = "" if setting.default in (None, ()) else f"; {setting.default} if not given"
    option = typer.Option(
        setting.flag,
        *(f"--{name.replace('_', '-')}" for name in setting.aliases),
        help=f"{setting.details} [{setting.allowed}{default}]",
        metavar=("," if setting.several else "|").join(setting.choices)
        or ("NAME" if setting.text else "N" if setting.integer else "X"),
        show_default=False,
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        # text: the recipe's own validation says what is allowed, in the same words everywhere
        annotation=Annotated[str | None, option],
    )


def with_step_flags(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace `**flags` in a command's signature by one option for every setting of every step,
    but for those named."""

    def with_them(command: Callable[..., None]) -> Callable[..., None]:
        known = inspect.signature(command, eval_str=True).parameters.values()
        fixed = [p for p in known if p.kind is not inspect.Parameter.VAR_KEYWORD]
        by_name = {s.name: _flag(s) for step in STEPS.values() for s in settings(step)}
        flags = [flag for name, flag in by_name.items() if name not in without]
        # typer reads the signature to make its options
        command.__signature__ = inspect.Signature([*fixed, *flags])  # type: ignore[attr-defined]
        return command

    return with_them


def recipe_of(
    model: str,
    flags: dict[str, Any],
    file: Path | None,
    seed: int | None,
    preset: str | None,
    *,
    images: bool,
) -> Recipe:
    """The recipe that is asked for, for a model: as `build_recipe`, or a whole one.

    Raises:
        InvalidInput: as `build_recipe`; or a whole recipe together with a file or flags, or
            an example's with another model than its own.
    """
    whole = (*WHOLE, *names())
    if preset not in whole or preset is None:
        if preset is not None and preset not in PRESETS:
            raise InvalidInput("preset", preset, ", ".join((*PRESETS, *whole)))
        return build_recipe(flags, file, seed, preset, images=images)
    given = _flags_of(flags) + (["--recipe"] if file is not None else [])
    if given:
        kind = "a whole recipe" if preset in WHOLE else "an example"
        raise InvalidInput("preset", preset, f"{kind} alone, without {', '.join(given)}")
    if preset in WHOLE:
        if not images:
            raise InvalidInput("preset", preset, f"{', '.join(available(False))}: {NO_IMAGES}")
        return parse(Recipe, {"steps": WHOLE[preset].steps, "seed": seed or 0})
    return parse(Recipe, recipe_for(preset, model, seed).model_dump())


def _flags_of(flags: dict[str, Any]) -> list[str]:
    known = {s.name: s.flag for step in STEPS.values() for s in settings(step)}
    return [known[name] for name, value in flags.items() if value is not None]


def build_recipe(
    flags: dict[str, Any],
    file: Path | None,
    seed: int | None,
    preset: str | None = None,
    *,
    images: bool = True,
) -> Recipe:
    """The recipe that the flags ask for, in the order prune, quantize, distill; or the file's.

    A setting that several steps have goes to each of them, and makes none of them by itself; nor
    does a preset. `images` says whether there are any to calibrate on.

    Raises:
        InvalidInput: a setting out of range, both a file and flags, or a preset without a step.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    counts = Counter(s.name for step in STEPS.values() for s in settings(step))
    steps = [
        {"step": name, **chosen}
        for name, step in STEPS.items()
        if (chosen := {s.name: given[s.name] for s in settings(step) if s.name in given})
        and any(counts[setting] == 1 for setting in chosen)
    ]
    unused = sorted(given.keys() - {name for step in steps for name in step})
    if unused and file is None:
        raise InvalidInput(unused[0], given[unused[0]], "a step to go with, such as --bits 4")
    if file is None:
        if preset is not None:
            if not steps:
                apply_preset(preset, {"step": "prune"}, images=images)
                raise InvalidInput("preset", preset, "a step to go with, such as --bits 4")
            explicit = [_parsed(values) for values in steps]
            steps = [apply_preset(preset, values, images=images) for values in explicit]
        for values in steps:
            parse(STEPS[values["step"]], values)
        return parse(Recipe, {"steps": steps, "seed": seed or 0})
    if given or preset:
        unwanted = ", ".join(_flags_of(flags) + (["--preset"] if preset else []))
        raise InvalidInput("recipe", str(file), f"a file alone, without {unwanted}")
    recipe = read_recipe(file)
    return recipe if seed is None else parse(Recipe, {**recipe.model_dump(), "seed": seed})


def _parsed(values: dict[str, Any]) -> dict[str, Any]:
    """What the flags say, as values: a preset looks at these beside its own."""
    step = parse(STEPS[values["step"]], values)
    return {name: getattr(step, name) for name in values}
