"""The recipe panel's values as one read-only mapping, and its ways to a recipe and back.

Keys are the names of the recipe's settings; a setting that several steps have is there once for
each, as STEP_NAME. Beside them: which steps are on, `amount` (which setting says how much to
prune), `mixed` (whether layers get different bits), `seed` and `device`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from compression.recipe.calibration_need import needs_images
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

DEVICES = ("auto", "cpu", "cuda")
AMOUNTS = ("threshold", "sparsity", "max_drop")
CUSTOM = "custom"
_COUNTS = Counter(s.name for step in STEPS.values() for s in settings(step))
KEYS: dict[str, dict[str, str]] = {
    step: {s.name: s.name if _COUNTS[s.name] == 1 else f"{step}_{s.name}" for s in settings(kind)}
    for step, kind in STEPS.items()
}
SETTINGS: dict[str, Setting] = {
    KEYS[step][s.name]: s for step, kind in STEPS.items() for s in settings(kind)
}
STEP_OF: dict[str, str] = {key: step for step, keys in KEYS.items() for key in keys.values()}

# Where the sliders stand at first; every other setting stands at its own default.
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


def taught(form: Form) -> str | None:
    """The other model that is taught and then compressed in place of the chosen one."""
    return form["student"] if form["distill"] else None


def split_names(text: str) -> tuple[str, ...]:
    """Names separated by commas, as a recipe has them: without doubles, in one order."""
    return tuple(sorted({part.strip() for part in text.split(",")} - {"", "none"}))


def asked(form: Form, step: str) -> dict[str, Any]:
    """What a step is asked for: the settings that no preset decides and that are in force."""
    how = method_settings(step)
    values = {name: form[key] for name, key in KEYS[step].items() if name not in how}
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
    values = asked(form, step)
    why = inactive_reasons(step, values)
    return values | {n: form[KEYS[step][n]] for n in method_settings(step) if n not in why}


def without_effect(form: Form, key: str) -> str | None:
    """Why a setting has no effect as the form stands; None if it has."""
    step = STEP_OF[key]
    name = next(n for n, k in KEYS[step].items() if k == key)
    return inactive_reasons(step, asked(form, step)).get(name)


def choices(form: Form, key: str, images: bool = True) -> tuple[str, ...]:
    """The choices of a setting that go with the others, and with there being images or not."""
    step, setting = STEP_OF[key], SETTINGS[key]
    others = {k: v for k, v in in_force(form, step).items() if k != setting.name}
    if setting.name in ("pattern", "loss"):  # what goes with it is settled when it changes
        return setting.choices
    return tuple(
        c
        for c in setting.choices
        if (images or not needs_images(setting.name, c))
        and is_compatible(step, others, setting.name, (c,) if setting.several else c)
    )


def to_recipe(form: Form) -> Recipe:
    """The recipe of these settings: prune, then quantize, then teach.

    Another model that is taught in place of this one comes first, and is then compressed.

    Raises:
        InvalidInput: a setting is out of range.
    """
    names = _order(form["student"] is not None)
    steps = [parse(STEPS[name], in_force(form, name)) for name in names if form[name]]
    return parse(Recipe, {"steps": steps, "seed": form["seed"]})


def _order(student: bool) -> list[str]:
    return sorted(STEPS, key=lambda name: name != "distill") if student else list(STEPS)


def from_recipe(recipe: Recipe, before: Form = PLAIN) -> Form | None:
    """The settings that make this recipe, or None if the sliders cannot make it.

    What the recipe does not set stays as it was `before`.
    """
    order = _order(any(getattr(step, "student", None) is not None for step in recipe.steps))
    places = [order.index(step.step) for step in recipe.steps]
    if places != sorted(set(places)):
        return None
    found = {**before, **dict.fromkeys(STEPS, False), "seed": recipe.seed}
    for step in recipe.steps:
        found[step.step] = True
        values = {KEYS[step.step][name]: value for name, value in step if name != "step"}
        kept = (*AMOUNTS, "average_bits")
        found |= {k: v for k, v in values.items() if v is not None or k not in kept}
        if step.step == "prune":
            given = [name for name in AMOUNTS if values[name] is not None]
            found["amount"] = given[0] if given else "sparsity"
        if step.step == "quantize":
            found["mixed"] = values["average_bits"] is not None
    return found if to_recipe(found) == recipe else None


def with_preset(form: Form, preset: str, images: bool = True) -> Form:
    """The form with every setting of how steps work as a preset has it.

    Raises:
        InvalidInput: the preset needs images and there are none.
    """
    changed: dict[str, Any] = {}
    for step, keys in KEYS.items():
        if how := method_settings(step):
            given = {"step": step, **asked(form, step)}
            made = apply_preset(preset, given, images=images)
            changed |= {keys[n]: made.get(n, SETTINGS[keys[n]].default) for n in how}
    return {**form, **changed}


def settled(form: Form, images: bool = True) -> Form:
    """The form with whatever does not go with the rest put to its default."""
    found = dict(form)
    if form["mixed"]:
        found["average_bits"] = min(form["average_bits"], float(form["bits"]))
    if form["loss"] == "dkd":  # it needs one right class
        found["mixup"] = 0.0
    if not images:
        found |= {"distill": False, "mixed": False, "activation_bits": None}
        found |= {"rate": 0.0, "keep_accuracy": None}
        if form["amount"] == "max_drop":
            found["amount"] = "sparsity"
    for step, keys in KEYS.items():
        how = {n: found[keys[n]] for n in method_settings(step)}
        given = {"step": step, **asked(found, step)}
        wished = {n: v for n, v in how.items() if images or not needs_images(n, v)}
        made, unused = merge(step, given, wished), inactive_reasons(step, given)
        found |= {keys[n]: SETTINGS[keys[n]].default for n in how if n not in {*made, *unused}}
    return found


def method_of(form: Form, images: bool = True, first: str | None = None) -> str:
    """The preset that gives these settings, `first` if that does, or else `custom`."""
    return preset_of(to_recipe(form), images=images, first=first) or CUSTOM
