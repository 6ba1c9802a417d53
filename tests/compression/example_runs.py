"""A finished run with figures, and stored examples made of it."""

from __future__ import annotations

from compression.catalogue.cards import cards
from compression.catalogue.examples import Example
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize
from compression.runs.progress import Curve, Point
from compression.runs.results import (
    Delta,
    Measurement,
    Run,
    State,
)
from compression.runs.statistics import Interval
from compression.runs.store import new_run

MODEL, OTHER = [c.id for c in cards().values() if c.bundled][:2]


RECIPE = Recipe(steps=(Prune(sparsity=0.9), Quantize(bits=3), Distill(epochs=2)), seed=3)


def figures(correct: int, size: int) -> Measurement:
    value = correct / 5000
    return Measurement(
        top1=Interval(value=value, low=value - 0.01, high=value + 0.01, n=5000),
        parameters=1000,
        nonzero=100,
        sparsity=0.9,
        bits_per_weight=8 * size / 1000,
        artifact_bytes=size,
        dense_bytes=4000,
        gzip_bytes=2 * size,
        entropy_bound_bytes=size - 1,
        macs=None,
        latency=None,
    )


def finished(recipe: Recipe = RECIPE, model: str = MODEL) -> Run:
    difference = Interval(value=-0.02, low=-0.03, high=-0.01, n=5000)
    return new_run(model, "fashion-mnist", recipe, State.DONE).model_copy(
        update={
            "baseline": figures(4600, 4000),
            "compressed": figures(4500, 80),
            "delta": Delta(
                top1=difference, size_ratio=50.0, latency_ratio=None, flips=None, agreement=None
            ),
            "notes": ("A note.",),
        }
    )


def example(name: str = "tiny", recipe: Recipe = RECIPE) -> Example:
    point = Point(step=1, epoch=0.5, loss=1.5, learning_rate=0.01, images_per_second=99.0)
    curve = Curve(at=2, epochs=2.0, points=(point,))
    return Example(
        name=name, title="Tiny", description="It is.", run=finished(recipe), curves=(curve,)
    )


def curve(at: int = 0, losses: tuple[float, ...] = (2.0, 1.0)) -> Curve:
    points = tuple(
        Point(
            step=i,
            epoch=i / 10,
            loss=loss,
            hard=None,
            soft=loss,
            learning_rate=0.01,
            images_per_second=500.0,
            top1=Interval(value=0.5, low=0.4, high=0.6, n=100),
        )
        for i, loss in enumerate(losses)
    )
    return Curve(at=at, epochs=1.0, points=points, device="a processor")
