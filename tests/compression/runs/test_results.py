"""A run's JSON: its names, its round trip, and figures that are not numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize
from compression.runs.results import (
    Delta,
    Latency,
    Measurement,
    Run,
    State,
    Timing,
)
from compression.runs.statistics import Flips, Interval, Ratio
from compression.runs.store import new_run

numbers = st.floats(allow_nan=False, allow_infinity=False)
intervals = st.builds(Interval, value=numbers, low=numbers, high=numbers, n=st.integers(1))
measurements = st.builds(
    Measurement,
    top1=st.none() | intervals,
    sparsity=numbers,
    bits_per_weight=numbers,
    latency=st.none()
    | st.builds(
        Latency, p50_ms=numbers, p90_ms=numbers, p99_ms=numbers, backend=st.text(max_size=5)
    ),
)
deltas = st.builds(
    Delta,
    top1=st.none() | intervals,
    flips=st.none() | st.builds(Flips),
    agreement=st.none() | numbers,
    size_ratio=st.none() | numbers,
    latency_ratio=st.none() | st.builds(Ratio, value=numbers, low=numbers, high=numbers),
)


def a_run(**figures: Any) -> Run:
    recipe = Recipe(steps=(Prune(sparsity=0.5), Quantize(bits=4), Distill()), seed=3)
    run = new_run("fashion-mnist/resnet18", "fashion-mnist", recipe, State.DONE)
    return run.model_copy(update=figures)


@given(measurements, measurements, deltas, st.lists(st.text(max_size=20), max_size=3).map(tuple))
def test_json_round_trip(
    baseline: Measurement, compressed: Measurement, delta: Delta, notes: tuple[str, ...]
) -> None:
    run = a_run(baseline=baseline, compressed=compressed, delta=delta, notes=notes)
    assert Run.model_validate_json(run.to_json()) == run
    assert Run.model_validate_json(run.to_json(indent=2)) == run


def test_names_are_those_that_were_promised() -> None:
    promised: dict[type[BaseModel], str] = {
        Run: "id state model dataset recipe recipe_key parent_key baseline compressed delta "
        "environment seconds notes stopped_early timings accounts exported search_top1 "
        "stages",
        Measurement: "top1 parameters nonzero sparsity macs artifact_bytes dense_bytes gzip_bytes "
        "entropy_bound_bytes bits_per_weight latency onnx_bytes int8_bytes",
        Delta: "top1 flips agreement size_ratio latency_ratio",
        Interval: "value low high n",
        Ratio: "value low high",
        Flips: "right_to_wrong wrong_to_right",
        Latency: "backend threads batch p50_ms p90_ms p99_ms on_busy_machine",
    }
    for kind, names in promised.items():
        assert " ".join(kind.model_fields) == names
    assert " ".join(json.loads(a_run().to_json())) == promised[Run]
    assert " ".join(State) == "queued running done failed cancelled"


def test_a_latency_of_before_loads_as_one_that_nothing_disturbed() -> None:
    timed = {"backend": "b", "threads": 1, "batch": 1, "p50_ms": 1, "p90_ms": 2, "p99_ms": 3}
    ratio = {"value": 1, "low": 1, "high": 1}
    timing = Timing.model_validate(
        {
            "backend": "onnx",
            "original_backend": "onnx",
            "baseline": timed,
            "compressed": timed,
            "ratio": ratio,
            "control": ratio,
            "busy": 0.1,
        }
    )
    assert not timing.compressed.on_busy_machine
    assert (timing.busy, timing.waiting, timing.switches) == (0.1, None, None)
    assert Timing.model_validate_json(timing.model_dump_json()) == timing


def test_recipe_inside_is_the_canonical_one() -> None:
    run = a_run()
    inside = json.loads(run.to_json())["recipe"]
    assert inside == json.loads(run.recipe.to_json())
    assert list(inside) == ["steps", "seed"]


def test_a_new_run_knows_its_keys() -> None:
    run = a_run()
    parent = Recipe(steps=run.recipe.steps[:2], seed=3)
    assert (run.recipe_key, run.parent_key) == (run.recipe.key, parent.key)
    assert new_run("m", None, Recipe()).parent_key is None
    assert len({new_run("m", None, Recipe()).id for _ in range(200)}) == 200


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_refused_for_json_cannot_hold_it(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Ratio(value=value, low=1, high=1)


def test_runs_cannot_be_changed_and_know_no_other_fields() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_run().state = State.FAILED
    with pytest.raises(ValidationError, match="extra"):
        Run.model_validate({**json.loads(a_run().to_json()), "speed": 1})
