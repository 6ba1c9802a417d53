"""Runs with figures chosen by a test, whole and valid as the engine makes them."""

from __future__ import annotations

from math import cos, exp, pi
from typing import Any

from compression.recipe.recipe import Recipe, parse
from compression.recipe.steps import STEPS
from compression.runs.progress import Curve, Point
from compression.runs.results import (
    Delta,
    Latency,
    Measurement,
    Run,
    State,
)
from compression.runs.statistics import Flips, Interval, Ratio
from compression.runs.store import Store, new_run

MODEL = "fashion-mnist/resnet18"
PARAMETERS, DENSE = 11_181_642, 44_765_128


def recipe(**settings: Any) -> Recipe:
    """A recipe from flat settings, as on the command line."""
    steps: list[dict[str, Any]] = []
    for step, kind in STEPS.items():
        chosen = {n: settings[n] for n in kind.model_fields if n in settings and n != "repair"}
        steps += [{"step": step, **chosen}] if chosen else []
    return parse(Recipe, {"steps": steps})


def measurement(
    top1: float | None, file_bytes: int, p50_ms: float | None, sparsity: float = 0.0
) -> Measurement:
    """A measurement; None for what could not be measured."""
    return Measurement(
        top1=None
        if top1 is None
        else Interval(value=top1, low=max(0.0, top1 - 0.008), high=min(1.0, top1 + 0.007), n=5000),
        parameters=PARAMETERS,
        nonzero=round(PARAMETERS * (1 - sparsity)),
        sparsity=sparsity,
        macs=37_016_576,
        artifact_bytes=file_bytes,
        dense_bytes=DENSE,
        gzip_bytes=file_bytes + 1,
        entropy_bound_bytes=file_bytes,
        bits_per_weight=8 * file_bytes / PARAMETERS,
        latency=None
        if p50_ms is None
        else Latency(
            backend="onnxruntime fp32",
            threads=1,
            batch=1,
            p50_ms=p50_ms,
            p90_ms=1.1 * p50_ms,
            p99_ms=1.3 * p50_ms,
        ),
    )


def done(
    made_by: Recipe,
    top1: float | None = 0.91,
    file_bytes: int = 1_200_000,
    p50_ms: float | None = 0.9,
    sparsity: float = 0.8,
    model: str = MODEL,
    original: float = 0.92,
) -> Run:
    """A finished run."""
    queued = new_run(model, "fashion-mnist" if top1 is not None else None, made_by)
    change = None if top1 is None else top1 - original
    ratio = None if p50_ms is None else 1.0 / p50_ms
    return queued.model_copy(
        update={
            "state": State.DONE,
            "baseline": measurement(None if top1 is None else original, DENSE, 1.0),
            "compressed": measurement(top1, file_bytes, p50_ms, sparsity),
            "delta": Delta(
                top1=None
                if change is None
                else Interval(value=change, low=change - 0.003, high=change + 0.003, n=5000),
                flips=None if top1 is None else Flips(right_to_wrong=110, wrong_to_right=60),
                agreement=None if top1 is None else 0.961,
                size_ratio=DENSE / file_bytes,
                latency_ratio=None
                if ratio is None
                else Ratio(value=ratio, low=0.98 * ratio, high=1.02 * ratio),
            ),
            "environment": {"torch": "2.15.0"},
            "seconds": 12.0,
            "notes": ("Zeros make the file smaller; they have no speed of their own.",),
        }
    )


def ended(state: State, made_by: Recipe, *notes: str, model: str = MODEL) -> Run:
    """A run that failed or was cancelled."""
    run = new_run(model, "fashion-mnist", made_by)
    return run.model_copy(update={"state": state, "notes": notes})


def fill(store: Store) -> list[Run]:
    """Three finished runs, one that failed and one that was cancelled."""
    runs = [
        done(recipe(sparsity=0.8, bits=4), 0.915, 1_830_000, 0.93),
        done(recipe(bits=8), 0.92, 10_100_000, 0.97, 0.0),
        done(recipe(sparsity=0.95, bits=3), 0.85, 700_000, 0.95, 0.95),
        ended(State.FAILED, recipe(sparsity=0.5), "The worker ran out of memory (limit 2 GB)."),
        ended(State.CANCELLED, recipe(bits=2)),
    ]
    for run in runs:
        store.runs.add(run)
    return runs


def curve(
    accuracies: tuple[float, ...],
    at: int = 0,
    epochs: float = 2.0,
    planned: float | None = None,
    per_look: int = 10,
    hard: bool = True,
    soft: bool = True,
) -> Curve:
    """How a step trained: accuracies at evenly spaced looks, the first before any step."""
    looks = len(accuracies) - 1
    points = []
    for i in range(looks * per_look + 1):
        share = i / (looks * per_look)
        seen = accuracies[i // per_look] if i % per_look == 0 else None
        parts = {"hard": 0.3 + 1.2 * exp(-4 * share), "soft": 0.1 + 2.4 * exp(-6 * share)}
        kept = {k: v for k, v in parts.items() if {"hard": hard, "soft": soft}[k] and i}
        points.append(
            Point(
                step=20 * i,
                epoch=epochs * share,
                learning_rate=0.005 * (1 + cos(pi * share)),
                loss=sum(kept.values()) / len(kept) if kept else None,
                images_per_second=1800.0 if i else None,
                top1=None
                if seen is None
                else Interval(value=seen, low=seen - 0.008, high=seen + 0.007, n=5000),
                **kept,
            )
        )
    return Curve(at=at, epochs=planned or epochs, points=tuple(points), device="cpu")


def sweep(base: dict[str, Any], accuracies: dict[tuple[float, float], float]) -> list[Run]:
    """Finished runs that differ in temperature and alpha only, oldest first."""
    return [
        done(recipe(**base, temperature=t, alpha=a), accuracy, 700_000)
        for (t, a), accuracy in accuracies.items()
    ]
