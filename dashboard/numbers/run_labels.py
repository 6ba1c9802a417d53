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


def told_apart(runs: Sequence[Run]) -> dict[str, str]:
    """A name for each run by its id: the settings that differ, or else its recipe's sentence."""
    values = {run.id: _settings(run) for run in runs}
    names = {name for found in values.values() for name in found}
    differ = [n for n in sorted(names) if len({found.get(n) for found in values.values()}) > 1]
    same_steps = len({tuple(s.step for s in run.recipe.steps) for run in runs}) == 1
    if len(runs) > 1 and same_steps and 0 < len(differ) <= _MOST_DIFFERENCES:
        return {run_id: _said(found, differ) for run_id, found in values.items()}
    return {run.id: sentence(run) for run in runs}


def beside(run: Run, other: Run) -> str:
    """A name for `other` where it is to be told from `run`."""
    said = told_apart([run, other])[other.id]
    return said if other.id[:6] in said else f"{said} · {other.id[:6]}"


def sentence(run: Run) -> str:
    """What the run did, without how, cut in the middle where it gets long."""
    text = fmt.shortened(run.recipe.sentence()).removesuffix(".")
    if len(text) > _LONGEST:
        text = f"{text[:_BEGINNING].rstrip(' ,')} … {text[_BEGINNING + 3 - _LONGEST :].lstrip()}"
    return f"{text} · {run.id[:6]}"


def _settings(run: Run) -> dict[tuple[int, str, str], Any]:
    found = {
        (place, step.step, name): value
        for place, step in enumerate(run.recipe.steps)
        for name, value in step
        if name != "step"
    }
    return found | {(len(run.recipe.steps), "", "seed"): run.recipe.seed}


def _said(found: dict[tuple[int, str, str], Any], names: list[tuple[int, str, str]]) -> str:
    return ", ".join(_one(step, name, found.get((at, step, name))) for at, step, name in names)


def _one(step: str, name: str, value: Any) -> str:
    known = {s.name: s for s in settings(STEPS[step])} if step else {}
    if name == "temperature":
        return f"T = {value:g}"
    if name in ("alpha", "seed"):
        return f"{name} {value:g}"
    title = known[name].title
    if value is None:
        return f"{title}: unset"
    if known[name].choices and isinstance(value, str):
        label = known[name].label(value)
        return label if name in _CLEAR else f"{title}: {label}"
    return f"{title}: {text_of(value)}"
