"""What to start with, and what to refuse, from the distribution of a model's weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compression.catalogue.cards import Weights
from compression.catalogue.channel_support import channels_supported
from compression.catalogue.starting_points import StartingPoint
from compression.recipe.presets import DEFAULT_PRESET, WHOLE, available
from compression.recipe.recipe import Recipe, parse
from dashboard.state.form import (
    PLAIN,
    Form,
    from_recipe,
    with_preset,
)

DEFAULT_SPARSITY = float(PLAIN["sparsity"])


def first_method(images: bool) -> str:
    """The preset to start with."""
    possible = available(images)
    return DEFAULT_PRESET if DEFAULT_PRESET in possible else possible[0]


def first_form(
    weights: Weights | None, images: bool = True, points: Sequence[StartingPoint] = ()
) -> Form:
    """Settings to start from: those that were measured to cost about half a point, or else 8 bits,
    which hardly any model minds."""
    form = PLAIN
    if weights is not None:
        highest = min(weights.threshold(DEFAULT_SPARSITY), min(weights.largest.values()))
        form = {**form, "threshold": _floor(highest)}
    measured = from_recipe(points[0].recipe, form) if points else None
    if measured is not None:
        return {**measured, "temperature": form["temperature"]}
    form = {**form, "prune": False, "quantize": True, "distill": False, "bits": 8}
    return with_preset(form, first_method(images), images)


def first_runs(
    form: Form,
    weights: Weights | None,
    images: bool = True,
    points: Sequence[StartingPoint] = (),
) -> dict[str, Form]:
    """Runs worth starting with, by name: those that were measured, or else careful guesses; none
    of them empties a layer."""
    kept = {name: form[name] for name in ("seed", "device")}
    off = {**PLAIN, **kept, "prune": False, "distill": False, "quantize": True}
    measured = {p.title: from_recipe(p.recipe, off) for p in points}
    known = {title: {**f, **kept} for title, f in measured.items() if f is not None}
    smallest = from_recipe(parse(Recipe, {"steps": WHOLE["smallest"].steps}), off)
    last = {"Smallest": smallest} if images and smallest is not None else {}
    if known:
        return known | last
    most = weights.sparsity(min(weights.largest.values())) if weights else 1.0
    some = {**off, "prune": True, "sparsity": min(0.5, math.floor(most * 20) / 20), "bits": 6}
    forms: dict[str, Form] = {"Careful": {**off, "bits": 8}, "Balanced": some}
    return {n: with_preset(f, first_method(images), images) for n, f in forms.items()} | last


def round_threshold(value: float) -> float:
    """Three significant digits: what a person reads is what is applied."""
    return float(f"{value:.2e}")


def cuts_by_magnitude(form: Form) -> bool:
    """Whether one magnitude threshold for the whole network decides which weights are pruned."""
    if form["amount"] == "threshold":
        return True
    plain = (form["scope"], form["score"], form["pattern"]) == (
        "global",
        "magnitude",
        "unstructured",
    )
    return plain and form["amount"] == "sparsity"


def refusal(form: Form, weights: Weights | None, architecture: str = "") -> str | None:
    """Why these settings cannot work, such as a layer left without weights; None if they can."""
    if not form["prune"]:
        return None
    if form["pattern"] == "channels" and form["amount"] != "threshold":
        reason = channels_supported(architecture)
        if reason is not None:
            return f"Channels cannot be removed from this model: {reason}. Choose another pattern."
    by_sparsity = form["amount"] == "sparsity" and ":" not in form["pattern"]
    if by_sparsity and form["sparsity"] >= 1:
        return "At 100 % sparsity no weight is left anywhere. Choose less."
    if weights is None or not cuts_by_magnitude(form):
        return None
    cut = weights.threshold(form["sparsity"]) if by_sparsity else form["threshold"]
    emptied = weights.emptied(cut)
    if not emptied:
        return None
    most = min(weights.largest.values())
    layers = f"layer {emptied[0]}" + (f" and {len(emptied) - 1} more" if len(emptied) > 1 else "")
    allowed = (
        f"a sparsity of at most {100 * weights.sparsity(most):.3g} %"
        if by_sparsity
        else f"a threshold of at most {_floor(most):.3g}"
    )
    return (
        f"This would set every weight of {layers} to zero, so no signal could pass. "
        f"Choose {allowed}."
    )


def _floor(value: float) -> float:
    """Three significant digits, never above `value`."""
    if value <= 0:
        return 0.0
    place = 10.0 ** (math.floor(math.log10(value)) - 2)
    return float(f"{math.floor(value / place) * place:.2e}")
