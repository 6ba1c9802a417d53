"""The form as URL parameters and back.

Parameters have the names of the recipe's settings, which are also the command line's; names from
before a renaming are read too. A step is on when one of its headline settings is there; finer
settings are there if they are not at their default. A setting of several steps goes by its own name
where the steps agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from compression.errors import InvalidInput
from compression.recipe.fields import Setting
from compression.recipe.steps import STEPS
from dashboard.state.form import (
    AMOUNTS,
    DEVICES,
    KEYS,
    PLAIN,
    RENAMED,
    SETTINGS,
    Form,
    in_force,
    settled,
    split_names,
    to_recipe,
)

ORIGINAL = "original"  # in the place of a run's id: the model as it was
_ALWAYS = tuple(key for key, setting in SETTINGS.items() if setting.shown.main)
# A step is on when one of these is given: a pattern can fix the sparsity by itself, and a recipe
# may fine-tune without a temperature.
_ALSO = {"prune": ("pattern",), "distill": ("epochs",)}
HEADLINES = {
    step: (*(key for key in keys.values() if key in _ALWAYS), *_ALSO.get(step, ()))
    for step, keys in KEYS.items()
}
# The name of one setting in several steps, and its keys.
_SHARED: dict[str, list[str]] = {}
for _keys in KEYS.values():
    for _name, _key in _keys.items():
        if _name != _key:
            _SHARED.setdefault(_name, []).append(_key)
_NOTHING = "none"


def to_params(form: Form) -> dict[str, str]:
    """The URL parameters of these settings: headline settings always, finer ones if changed."""
    params: dict[str, str] = {}
    values = {
        KEYS[step][name]: value
        for step in STEPS
        if form[step]
        for name, value in in_force(form, step).items()
    }
    for key, value in values.items():
        if key in _ALWAYS or value != SETTINGS[key].default:
            params[key] = text_of(value)
    for name, keys in _SHARED.items():
        shared = {values[key] for key in keys if key in values}
        if len(shared) == 1 and params.keys() & set(keys):
            params = {k: v for k, v in params.items() if k not in keys} | {name: text_of(*shared)}
    if not any(form[step] for step in STEPS):
        params["steps"] = _NOTHING
    return params | {n: text_of(form[n]) for n in ("seed", "device") if form[n] != PLAIN[n]}


def text_of(value: Any) -> str:
    """A value as the URL has it."""
    if isinstance(value, tuple):
        return ",".join(value) or _NOTHING
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def from_params(
    params: Mapping[str, str], start: Form, images: bool = True
) -> tuple[Form, tuple[str, ...]]:
    """Settings read from URL parameters, and a sentence for each one that could not be used."""
    known = {*SETTINGS, *_SHARED, "seed", "device"}
    current = {RENAMED.get(name, name): text for name, text in params.items()}
    given = {name: text for name, text in current.items() if name in known}
    form = _switched(given, params.get("steps") == _NOTHING, start)
    problems, read = [], {}
    for name, text in given.items():
        try:
            read[name] = read_value(name, text)
        except InvalidInput as error:
            used = next(_values(form, name), None)
            problems.append(f"{error}. Using {text_of(used)} instead.")
    for name in sorted(read, key=lambda n: n not in _SHARED):
        form = {**form, **dict.fromkeys(_SHARED.get(name, [name]), read[name])}
    form = settled(form, images)
    unused = [n for n, value in read.items() if not _in_use(form, n, value)]
    problems += [
        f"{name}: {given[name]!r} is not compatible with the other settings and is not used."
        for name in unused
    ]
    return form, tuple(problems)


def _switched(given: Mapping[str, str], nothing: bool, start: Form) -> Form:
    """Which steps are on, and by what the amount is given; the rest as at the start or plain."""
    on = {step: bool(set(names) & given.keys()) for step, names in HEADLINES.items()}
    if not any(on.values()) and not nothing:
        return start
    amounts = [name for name in AMOUNTS if name in given]
    amount = amounts[0] if amounts else "sparsity" if "pattern" in given else start["amount"]
    kept = {name: start[name] for name in AMOUNTS}
    return {**PLAIN, **kept, **on, "amount": amount, "mixed": "average_bits" in given}


def _values(form: Form, name: str) -> Iterator[Any]:
    for key in _SHARED.get(name, [name]):
        yield form[key]


def _in_use(form: Form, name: str, value: Any) -> bool:
    """Whether the recipe has this value; true of settings of a step that is off."""
    if name in ("seed", "device"):
        return True
    steps = {s.step: dict(s) for s in to_recipe(form).steps}
    values = [
        steps[step][setting]
        for step, keys in KEYS.items()
        for setting, key in keys.items()
        if key in _SHARED.get(name, [name]) and step in steps
    ]
    return not values or value in values


def read_value(name: str, text: str) -> Any:
    """One setting from text.

    Raises:
        InvalidInput: not a value this setting allows.
    """
    if name == "device":
        if text not in DEVICES:
            raise InvalidInput(name, text, ", ".join(DEVICES))
        return text
    if name == "seed":
        if not (text.isascii() and text.isdigit() and int(text) < 2**31):
            raise InvalidInput(name, text, "a whole number from 0 to 2147483647")
        return int(text)
    return _in_range(name, SETTINGS[_SHARED.get(name, [name])[0]], text)


def _in_range(name: str, setting: Setting, text: str) -> Any:
    refused = InvalidInput(name, text, setting.allowed)
    if setting.text:
        names = split_names(text)
        if not setting.several and len(names) != 1:
            raise refused
        return names if setting.several else names[0]
    if setting.several:
        values = set() if text in ("", _NOTHING) else set(text.split(","))
        if not values <= set(setting.choices):
            raise refused
        return tuple(sorted(values))
    if setting.choices:
        if text not in setting.choices:
            raise refused
        return text
    try:
        value = int(text) if setting.integer else float(text)
    except ValueError:
        raise refused from None
    above = setting.above and value <= (setting.low or 0)
    if not math.isfinite(value) or above or value < (setting.low or 0):
        raise refused
    if setting.high is not None and value > setting.high:
        raise refused
    return value
