"""Settings of a step that have no effect beside its others, and why. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from compression.recipe.distill import BETWEEN_LAYERS, DECAYING, WITH_MOMENTUM
from compression.recipe.fields import settings
from compression.recipe.steps import STEPS

# What a worth of a kilobyte decides.
_BY_RATE = (
    *("scheme", "granularity", "clipping", "rounding", "edge_bits", "average_bits"),
    *("sensitivity", "repair"),
)


def inactive_reasons(step: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The settings that have no effect beside these, and why in one sentence."""
    why: dict[str, str] = {}
    pattern = str(values.get("pattern", ""))
    if step == "prune":
        if values.get("threshold") is not None:
            said = "A threshold looks at the magnitude of single weights, in every layer alike."
            why |= dict.fromkeys(("scope", "score", "pattern"), said)
        if ":" in pattern:
            said = "The pattern itself says how many weights go, in every layer alike."
            why |= dict.fromkeys(("threshold", "sparsity", "max_drop", "scope"), said)
        if pattern != "channels":
            why["round_to"] = "Only whole channels are counted in multiples."
    if step == "quantize":
        if values.get("average_bits") is None:
            why["sensitivity"] = "Every layer gets the same bits."
        if values.get("activation_bits") is None:
            said = "Activations stay float32."
            why |= dict.fromkeys(("activation_clipping", "activation_granularity"), said)
        if values.get("rate") or values.get("keep_accuracy") is not None:
            said = "What a kilobyte is worth decides how every layer is rounded and repaired."
            why |= dict.fromkeys(_BY_RATE, said)
        if values.get("keep_accuracy") is None:
            why["margin"] = "No accuracy to keep is asked for."
        else:
            why["rate"] = "The accuracy to keep decides what a kilobyte is worth."
    if step == "distill":
        why |= _idle_in_training({**_DEFAULTS, **values})
    return why


_DEFAULTS = {s.name: s.default for s in settings(STEPS["distill"])}


def _idle_in_training(values: Mapping[str, Any]) -> dict[str, str]:
    why: dict[str, str] = {}
    loss, schedule = values["loss"], values["schedule"]
    if loss != "dkd":
        why["other_classes"] = "Only dkd weighs the wrong classes by themselves."
    if loss not in BETWEEN_LAYERS:
        why |= dict.fromkeys(("layer_weight", "layers"), "No layers are matched.")
    if loss == "logits" or values["alpha"] == 1:
        why["label_smoothing"] = "No label is read."
    if values["student"] is None:
        why["initial"] = "The model itself is taught."
    if values["optimizer"] not in WITH_MOMENTUM:
        why["momentum"] = "This optimizer has none to set."
    if schedule == "one-cycle":
        why["warmup"] = "One cycle has a warm-up of its own."
    if schedule not in DECAYING:
        why["decay"] = "This schedule has no factor."
    if schedule not in ("step", "exponential"):
        why["decay_epochs"] = "This schedule does not count epochs."
    if schedule != "plateau":
        why["patience"] = "Only plateau waits for validation."
    return why


def is_compatible(step: str, values: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether a setting has an effect beside these, and its value is not refused."""
    if name in inactive_reasons(step, values):
        return False
    try:
        STEPS[step].model_validate({**values, "step": step, name: value})
    except ValidationError:
        return False
    return True
