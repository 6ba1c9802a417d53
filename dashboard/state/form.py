"""The recipe panel's values as one read-only mapping, to a recipe and back.

Keys are the names of the recipe's settings; a setting of several steps is there once for each, as
STEP_NAME. Beside them: which steps are on, `amount` (which setting says how much to prune), `mixed`
(mixed precision: whether layers get different bits), `seed` and `device`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from compression.recipe.fields import Setting, settings
from compression.recipe.inactive_fields import inactive_reasons, is_compatible
from compression.recipe.presets import (
    apply_preset,
    merge,
    method_settings,
    preset_of,
)
from compression.recipe.recipe import Recipe, parse
from compression.recipe.steps import STEPS

Form = Mapping[str, Any]

DEVICES = {"auto": "Automatic: GPU if there is one", "cpu": "CPU", "cuda": "NVIDIA GPU (CUDA)"}
CUSTOM = "custom"
_COUNTS = Counter(s.name for step in STEPS.values() for s in settings(step))
KEYS: dict[str, dict[str, str]] = {
    step: {s.name: s.name if _COUNTS[s.name] == 1 else f"{step}_{s.name}" for s in settings(kind)}
    for step, kind in STEPS.items()
}
SETTINGS: dict[str, Setting] = {
    KEYS[step][s.name]: s for step, kind in STEPS.items() for s in settings(kind)
}
# The name a setting had before, as addresses may still have it.
RENAMED: dict[str, str] = {
    alias: key for key, s in SETTINGS.items() for alias in s.aliases if alias not in SETTINGS
}
# How much to prune is said by one of these.
AMOUNTS = tuple(s.name for s in settings(STEPS["prune"]) if s.shown.main)
STEP_OF: dict[str, str] = {key: step for step, keys in KEYS.items() for key in keys.values()}

# Where the sliders start; every other setting starts at its default.
_FIRST: dict[str, Any] = {
    "prune": True,
    "quantize": True,
    "distill": False,
    "amount": "sparsity",
    "mixed": False,
    "seed": 0,
    "device": "auto",
    "threshold": 0.01,
    "sparsity": 0.8,
    "max_drop": 1.0,
    "bits": 4,
    "average_bits": 4.0,
}
PLAIN: Form = {key: s.default for key, s in SETTINGS.items()} | _FIRST
NAMES = tuple(PLAIN)


def student_of(form: Form) -> str | None:
    """The other model that is trained and then compressed in place of the selected one."""
    return form["student"] if form["distill"] else None


def split_names(text: str) -> tuple[str, ...]:
    """Names separated by commas, as a recipe has them: without doubles, in one order."""
    return tuple(sorted({part.strip() for part in text.split(",")} - {"", "none"}))


def amounts(form: Form, step: str) -> dict[str, Any]:
    """The settings of a step that no preset decides and that have an effect."""
    governed = method_settings(step)
    values = {name: form[key] for name, key in KEYS[step].items() if name not in governed}
    unused = {name for name in AMOUNTS if name != form["amount"]}
    if form["amount"] == "threshold":
        unused.add("pattern")
    elif ":" in form["pattern"]:
        unused.update(AMOUNTS)
    if not form["mixed"]:
        unused.add("average_bits")
    values = {k: v for k, v in values.items() if v is not None and k not in unused}
    return {k: v for k, v in values.items() if k not in inactive_reasons(step, values)}


def in_force(form: Form, step: str) -> dict[str, Any]:
    """All settings of a step that have an effect as the form stands."""
    values = _values(form, step)
    reasons = inactive_reasons(step, values)
    return {n: v for n, v in values.items() if n not in reasons}


def _values(form: Form, step: str) -> dict[str, Any]:
    """How much, and of how those settings that have an effect beside it."""
    values = amounts(form, step)
    reasons = inactive_reasons(step, values)
    return values | {n: form[KEYS[step][n]] for n in method_settings(step) if n not in reasons}


def without_effect(form: Form, key: str) -> str | None:
    """Why a setting has no effect beside the others; None if it has one."""
    step = STEP_OF[key]
    name = next(n for n, k in KEYS[step].items() if k == key)
    return inactive_reasons(step, _values(form, step)).get(name)


def choices(form: Form, key: str, images: bool = True) -> tuple[str, ...]:
    """The choices of a setting that are compatible with the others, and possible without images."""
    step, setting = STEP_OF[key], SETTINGS[key]
    others = {k: v for k, v in in_force(form, step).items() if k != setting.name}
    if setting.name in ("pattern", "loss"):  # when it changes, the others are settled with it
        return setting.choices
    return tuple(
        c
        for c in setting.choices
        if (images or not setting.needs_images((c,) if setting.several else c))
        and is_compatible(step, others, setting.name, (c,) if setting.several else c)
    )


def to_recipe(form: Form) -> Recipe:
    """The recipe of these settings: prune, then quantize, then distill.

    Another model trained in place of this one comes first, and is then compressed.

    Raises:
        InvalidInput: a setting is out of range.
    """
    names = _order(form["student"] is not None)
    steps = [parse(STEPS[name], in_force(form, name)) for name in names if form[name]]
    return parse(Recipe, {"steps": steps, "seed": form["seed"]})


def _order(student: bool) -> list[str]:
    return sorted(STEPS, key=lambda name: name != "distill") if student else list(STEPS)


def from_recipe(recipe: Recipe, before: Form = PLAIN) -> Form | None:
    """The settings of this recipe, or None if the form cannot express it.

    What the recipe does not set stays as it was `before`.
    """
    order = _order(any(getattr(step, "student", None) is not None for step in recipe.steps))
    places = [order.index(step.step) for step in recipe.steps]
    if places != sorted(set(places)):
        return None
    form = {**before, **dict.fromkeys(STEPS, False), "seed": recipe.seed}
    for step in recipe.steps:
        form[step.step] = True
        values = {KEYS[step.step][name]: value for name, value in step if name != "step"}
        form |= {k: v for k, v in values.items() if v is not None or k not in _FIRST}
        if step.step == "prune":
            given = [name for name in AMOUNTS if values[name] is not None]
            form["amount"] = given[0] if given else "sparsity"
        if step.step == "quantize":
            form["mixed"] = values["average_bits"] is not None
    return form if to_recipe(form) == recipe else None


def with_preset(form: Form, preset: str, images: bool = True) -> Form:
    """The form with every setting that presets decide as this one has it.

    Raises:
        InvalidInput: the preset needs images and there are none.
    """
    changed: dict[str, Any] = {}
    for step, keys in KEYS.items():
        values = apply_preset(preset, {"step": step, **amounts(form, step)}, images=images)
        governed = method_settings(step)
        changed |= {keys[n]: values.get(n, SETTINGS[keys[n]].default) for n in governed}
    return {**form, **changed}


def settled(form: Form, images: bool = True) -> Form:
    """The form with whatever is incompatible with the rest put to its default."""
    values = dict(form)
    if form["mixed"]:
        values["average_bits"] = min(form["average_bits"], float(form["bits"]))
    if not images:
        values |= _without_images(form)
    for step, keys in KEYS.items():
        fixed = {"step": step, **amounts(values, step)}
        governed = {n: values[keys[n]] for n in method_settings(step)}
        wanted = {
            n: v for n, v in governed.items() if images or not SETTINGS[keys[n]].needs_images(v)
        }
        kept = {*merge(step, fixed, wanted), *inactive_reasons(step, fixed)}
        values |= {keys[n]: SETTINGS[keys[n]].default for n in governed if n not in kept}
    return values


def _without_images(form: Form) -> dict[str, Any]:
    """What is to change where there are no images: nothing trains, nothing calibrates."""
    changed: dict[str, Any] = {"distill": False, "mixed": False}
    for key, setting in SETTINGS.items():
        if key not in _FIRST and not setting.by_preset and setting.needs_images(form[key]):
            changed[key] = setting.default
    if SETTINGS[form["amount"]].images:
        changed["amount"] = "sparsity"
    return changed


def method_of(form: Form, images: bool = True, first: str | None = None) -> str:
    """The preset with these settings, `first` if it has them; `custom` if none has."""
    return preset_of(to_recipe(form), images=images, first=first) or CUSTOM
