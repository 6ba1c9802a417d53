"""The sliders' values as one frozen value, and its ways to a recipe and to the URL and back.

URL parameters have the names of the recipe's settings, which are also the command line's. A step
is on when its headline setting is there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from compression.catalogue import Weights
from compression.errors import InvalidInput
from compression.recipe import Recipe, parse
from compression.settings import Setting, settings
from compression.steps import STEPS, Distill, Prune, Quantize

DEFAULT_SPARSITY = 0.8
DEFAULT_BITS = 4
DEVICES = ("auto", "cpu", "cuda")
HEADLINES = {"prune": ("threshold", "sparsity"), "quantize": ("bits",), "distill": ("temperature",)}
SETTINGS: dict[str, Setting] = {s.name: s for step in STEPS.values() for s in settings(step)}
_NOTHING = "none"


@dataclass(frozen=True)
class Form:
    """What the recipe panel shows. Threshold is a magnitude, sparsity a fraction."""

    prune: bool = True
    by_sparsity: bool = True
    threshold: float = 0.01
    sparsity: float = DEFAULT_SPARSITY
    scope: str = "global"
    quantize: bool = True
    bits: int = DEFAULT_BITS
    scheme: str = "symmetric"
    granularity: str = "channel"
    clipping: str = "mse"
    distill: bool = False
    temperature: float = 4.0
    alpha: float = 0.9
    epochs: int = 1
    learning_rate: float = 0.01
    seed: int = 0
    device: str = "auto"


NAMES = tuple(field.name for field in fields(Form))
_DEFAULT = Form()


def first_form(weights: Weights | None) -> Form:
    """Good settings to start from: 80 % zeros, as a threshold if the weights are known, 4 bits."""
    if weights is None:
        return _DEFAULT
    highest = min(weights.threshold(DEFAULT_SPARSITY), min(weights.largest.values()))
    return replace(_DEFAULT, by_sparsity=False, threshold=_floor(highest))


def first_runs(form: Form, weights: Weights | None) -> dict[str, Form]:
    """Three runs worth starting with, by name; none of them empties a layer."""
    most = weights.sparsity(min(weights.largest.values())) if weights else 1.0
    off = replace(form, prune=False, by_sparsity=True, scope="global", distill=False, quantize=True)

    def pruned(sparsity: float, bits: int) -> Form:
        allowed = min(sparsity, math.floor(most * 20) / 20)
        return replace(off, prune=True, sparsity=allowed, bits=bits)

    return {
        "Careful": replace(off, bits=8),
        "Balanced": pruned(DEFAULT_SPARSITY, DEFAULT_BITS),
        "Bold": pruned(0.9, 3),
    }


def round_threshold(value: float) -> float:
    """Three significant digits: what a person reads is what is applied."""
    return float(f"{value:.2e}")


def to_recipe(form: Form) -> Recipe:
    """The recipe of these settings: prune, then quantize, then teach.

    Raises:
        InvalidInput: a setting is out of range.
    """
    steps: list[Any] = []
    if form.prune:
        chosen = {"sparsity": form.sparsity, "scope": form.scope}
        steps.append(parse(Prune, chosen if form.by_sparsity else {"threshold": form.threshold}))
    if form.quantize:
        steps.append(parse(Quantize, _pick(form, "bits", "scheme", "granularity", "clipping")))
    if form.distill:
        names = ("temperature", "alpha", "epochs", "learning_rate")
        steps.append(parse(Distill, _pick(form, *names)))
    return parse(Recipe, {"steps": steps, "seed": form.seed})


def _pick(form: Form, *names: str) -> dict[str, Any]:
    return {name: getattr(form, name) for name in names}


def from_recipe(recipe: Recipe, before: Form = _DEFAULT) -> Form | None:
    """The settings that make this recipe, or None if the sliders cannot make it.

    What the recipe does not set stays as it was `before`.
    """
    order = list(STEPS)
    places = [order.index(step.step) for step in recipe.steps]
    if places != sorted(set(places)):
        return None
    values: dict[str, Any] = {name: name in {s.step for s in recipe.steps} for name in STEPS}
    for step in recipe.steps:
        values |= {k: v for k, v in step.model_dump(exclude_none=True).items() if k != "step"}
        if isinstance(step, Prune):
            values["by_sparsity"] = step.sparsity is not None
    return replace(before, **values, seed=recipe.seed)


def to_params(form: Form) -> dict[str, str]:
    """The URL parameters of these settings: headline settings always, finer ones if changed."""
    on = {name for name in STEPS if getattr(form, name)}
    found: dict[str, str] = {}
    for step, kind in STEPS.items():
        for setting in settings(kind) if step in on else ():
            name, value = setting.name, getattr(form, setting.name)
            if step == "prune" and name == ("threshold" if form.by_sparsity else "sparsity"):
                continue
            if step == "prune" and name == "scope" and not form.by_sparsity:
                continue
            if name in HEADLINES[step] or value != getattr(_DEFAULT, name):
                found[name] = _text(value)
    if not on:
        found["steps"] = _NOTHING
    return found | {n: _text(_pick(form, n)[n]) for n in ("seed", "device") if _changed(form, n)}


def _changed(form: Form, name: str) -> bool:
    return bool(getattr(form, name) != getattr(_DEFAULT, name))


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def from_params(params: Mapping[str, str], start: Form) -> tuple[Form, tuple[str, ...]]:
    """Settings read from URL parameters, and a sentence for each one that could not be used."""
    known = {*SETTINGS, "seed", "device"}
    given = {name: text for name, text in params.items() if name in known}
    form, problems = start, []
    headlines = {n for names in HEADLINES.values() for n in names}
    if headlines & given.keys() or params.get("steps") == _NOTHING:
        on: dict[str, Any] = {
            step: bool(set(names) & given.keys()) for step, names in HEADLINES.items()
        }
        form = replace(form, **on)
        if form.prune:
            form = replace(form, by_sparsity="threshold" not in given)
    for name, text in given.items():
        try:
            value = read_value(name, text)
        except InvalidInput as error:
            problems.append(f"{error}. Using {_text(getattr(form, name))} instead.")
        else:
            form = replace(form, **{name: value})
    return form, tuple(problems)


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
    return _in_range(SETTINGS[name], text)


def _in_range(setting: Setting, text: str) -> Any:
    refused = InvalidInput(setting.name, text, setting.allowed)
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


def refusal(form: Form, weights: Weights | None) -> str | None:
    """Why these settings would leave a layer without weights; None if they would not."""
    if not form.prune:
        return None
    if form.by_sparsity and form.sparsity >= 1:
        return "At 100 % sparsity no weight is left anywhere. Choose less."
    if weights is None or (form.by_sparsity and form.scope == "layer"):
        return None
    cut = weights.threshold(form.sparsity) if form.by_sparsity else form.threshold
    emptied = weights.emptied(cut)
    if not emptied:
        return None
    most = min(weights.largest.values())
    layers = f"layer {emptied[0]}" + (f" and {len(emptied) - 1} more" if len(emptied) > 1 else "")
    allowed = (
        f"a sparsity of at most {100 * weights.sparsity(most):.3g} %"
        if form.by_sparsity
        else f"a threshold of at most {_floor(most):.3g}"
    )
    what = f"This would set every weight of {layers} to zero, and nothing could pass."
    return f"{what} Choose {allowed}."


def _floor(value: float) -> float:
    """Three significant digits, never above `value`."""
    if value <= 0:
        return 0.0
    place = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.floor(value / place) * place:.2e}")
