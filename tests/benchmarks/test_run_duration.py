"""What the benchmark of foreseen times counts, and that its stored runs are foreseen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compression.recipe.recipe import Recipe
from compression.recipe.steps import Quantize
from tests.benchmarks.run_duration import (
    MODELS,
    RESULTS,
    TARGET,
    Foreseen,
    asked,
    foresee,
    row_of,
    run_of,
    table,
)
from tests.compression.example_runs import finished


def row(seconds: float, bits: int = 4, busy: bool = False) -> dict[str, Any]:
    run = finished(Recipe(steps=(Quantize(bits=bits, rounding="gptq"),)), MODELS[0])
    stages = [
        {"stage": "Loading", "seconds": 0.0},
        {"stage": "Quantizing", "at": 0, "seconds": seconds},
    ]
    return {**row_of(run), "seconds": seconds, "stages": stages, "busy": busy}


@pytest.mark.parametrize(
    ("estimated", "within"), [(10.0, True), (6.7, True), (14.9, True), (6.6, False), (15.1, False)]
)
def test_a_factor_either_way_is_within(estimated: float, within: bool) -> None:
    assert Foreseen("m", "run", estimated, 10.0, busy=False).within is within


def test_a_run_without_an_estimate_is_not_counted_as_foreseen() -> None:
    assert not Foreseen("m", "run", None, 10.0, busy=False).within


def test_only_the_runs_before_tell() -> None:
    foreseen = foresee([row(8.0, 8), row(8.0, 4), row(2.0, 3)])
    assert foreseen[0].estimated is None
    assert [round(f.estimated or 0, 1) for f in foreseen[1:]] == [8.0, 8.0]
    assert [f.within for f in foreseen] == [False, True, False]
    found = {"machine": "a machine", "threads": 1, "runs": [row(8.0, 8), row(8.0), row(2.0, 3)]}
    assert "1 of 2 estimates are within" in table(found)
    assert "For 1 of 3 runs nothing told" in table(found)


def test_a_stored_run_is_as_it_was() -> None:
    run = finished(Recipe(steps=(Quantize(bits=3),)), MODELS[0])
    again = run_of({**row_of(run), "seconds": 4.0})
    assert (again.recipe, again.compressed) == (run.recipe, run.compressed)
    assert again.seconds == 4.0


def test_twenty_to_thirty_runs_of_two_models_are_asked_for() -> None:
    recipes = list(asked())
    assert 20 <= len(recipes) <= 30 and {model for model, _ in recipes} == {*MODELS}
    assert any(r.searches and not r.trains for _, r in recipes)
    assert any(r.trains for _, r in recipes)


def test_nine_of_ten_measured_runs_are_foreseen() -> None:
    foreseen = [f for f in foresee(json.loads(RESULTS.read_text())["runs"]) if f.estimated]
    quiet = [f for f in foreseen if not f.busy]
    assert sum(f.within for f in quiet) >= TARGET * len(quiet)
