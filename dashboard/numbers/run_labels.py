"""Short names for runs that are shown together: what tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compression.recipe.fields import settings
from compression.recipe.steps import STEPS
from compression.runs.results import Run
from dashboard.numbers import format as fmt
from dashboard.state.url import text_of

_MOST_DIFFERENCES = 3
_LONGEST, _BEGINNING = 72, 24
# Settings whose choices are understood without the setting's name.
_CLEAR = ("loss", "optimizer", "score", "rounding")


def distinct_labels(runs: Sequence[Run]) -> dict[str, str]:
    """A name for each run by its id: the settings that differ, or else its recipe's sentence."""
    settings_of = {run.id: _settings(run) for run in runs}
    names = {name for values in settings_of.values() for name in values}
    differ = [
        n for n in sorted(names) if len({values.get(n) for values in settings_of.values()}) > 1
    ]
    same_steps = len({tuple(s.step for s in run.recipe.steps) for run in runs}) == 1
    if len(runs) > 1 and same_steps and 0 < len(differ) <= _MOST_DIFFERENCES:
        return {run_id: _described(values, differ) for run_id, values in settings_of.items()}
    return {run.id: sentence(run) for run in runs}


def label_beside(run: Run, other: Run) -> str:
    """A name for `other` that says how it differs from `run`; unique by its id."""
    label = distinct_labels([run, other])[other.id]
    return label if other.id[:6] in label else f"{label} · {other.id[:6]}"


def sentence(run: Run) -> str:
    """What the run did, without how, shortened in the middle where it gets long."""
    text = fmt.shortened(run.recipe.sentence()).removesuffix(".")
    if len(text) > _LONGEST:
        text = f"{text[:_BEGINNING].rstrip(' ,')} … {text[_BEGINNING + 3 - _LONGEST :].lstrip()}"
    return f"{text} · {run.id[:6]}"


def _settings(run: Run) -> dict[tuple[int, str, str], Any]:
    values = {
        (place, step.step, name): value
        for place, step in enumerate(run.recipe.steps)
        for name, value in step
        if name != "step"
    }
    return values | {(len(run.recipe.steps), "", "seed"): run.recipe.seed}


def _described(values: dict[tuple[int, str, str], Any], names: list[tuple[int, str, str]]) -> str:
    return ", ".join(_setting(step, name, values.get((at, step, name))) for at, step, name in names)


def _setting(step: str, name: str, value: Any) -> str:
    if name == "temperature":
        return f"T = {value:g}"
    if name in ("alpha", "seed"):
        return f"{name} {value:g}"
    setting = next(s for s in settings(STEPS[step]) if s.name == name)
    if value is None:
        return f"{setting.title}: unset"
    if setting.choices and isinstance(value, str):
        choice = setting.label(value)
        return choice if name in _CLEAR else f"{setting.title}: {choice}"
    return f"{setting.title}: {text_of(value)}"
