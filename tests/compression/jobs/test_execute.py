"""Doing a run: how far it is, its times, and on which images a search is reported."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from compression.data.datasets import load_dataset
from compression.data.splits import REPORT
from compression.jobs.execute import execute
from compression.measure.accuracy import compare, predict
from compression.methods.pipeline import compress
from compression.models.load import original_of
from compression.models.parametrize import materialize
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize
from compression.runs.durations.expected import estimate
from compression.runs.durations.stages import LATENCY, LOADING
from compression.runs.progress import Progress
from compression.runs.results import Run, State
from compression.runs.store import Store, new_run

pytestmark = pytest.mark.slow


MODEL = "fashion-mnist/squeezenet1_1"
SEARCHED = Recipe(steps=(Prune(max_drop=1.0),))
NOTE = "Accuracy is on the 2,500 validation images that the search did not look at."


@cache
def done(recipe: Recipe, split: str = "validation") -> Run:
    return execute(
        new_run(MODEL, "fashion-mnist", recipe, State.RUNNING), device="cpu", split=split
    )


def test_a_search_is_reported_on_the_other_half_of_validation() -> None:
    run, data = done(SEARCHED), load_dataset("fashion-mnist")
    assert run.environment["split"] == REPORT and NOTE in run.notes
    assert run.compressed is not None and run.baseline is not None and run.delta is not None
    model = materialize(compress(MODEL, SEARCHED, device="cpu").model)
    comparison = compare(predict(original_of(MODEL), data.report), predict(model, data.report))
    assert (run.baseline.top1, run.compressed.top1) == (comparison.before, comparison.after)
    assert run.delta.top1 == comparison.change and comparison.change.n == 2_500
    on_search = compare(predict(original_of(MODEL), data.search), predict(model, data.search))
    assert run.search_top1 == on_search.after
    assert on_search.change.value >= -0.01 - 1e-12  # the search keeps its word where it looked
    sentence = next(note for note in run.notes if note.startswith("Bisection found"))
    assert f"{100 * on_search.change.value:+.2f} points on the 2,500 images" in sentence


def test_certifying_looks_at_all_test_images_whatever_was_searched() -> None:
    run = done(SEARCHED, "test")
    assert run.environment["split"] == "test" and NOTE not in run.notes
    assert run.compressed is not None and run.compressed.top1 is not None
    assert run.compressed.top1.n == 10_000


def test_a_search_never_sees_an_image_of_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("fashion-mnist")
    seen: list[torch.Tensor] = []

    def see(model: object, split: object, *rest: object) -> object:
        seen.append(split.images)  # type: ignore[attr-defined]
        return predict(model, split, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("compression.methods.calibration.accuracy_search.predict", see)
    compress(MODEL, Recipe(steps=(Prune(max_drop=3.0),), seed=1), device="cpu")
    rows = {image.numpy().tobytes() for images in seen for image in images}
    report = {image.numpy().tobytes() for image in data.report.images}
    search = {image.numpy().tobytes() for image in data.search.images}
    assert rows and rows <= search and len(rows & report) == len(search & report)


def trained(store: Store, seed: int) -> tuple[Run, list[Progress]]:
    """A short run with training, stored, and what it reported."""
    steps = (Quantize(bits=8), Distill(images=600, batch_size=50))
    told: list[Progress] = []
    run = new_run(MODEL, "fashion-mnist", Recipe(steps=steps, seed=seed), State.RUNNING)
    run = execute(run, device="cpu", report=told.append, store=store)
    store.runs.add(run)
    return run, told


def test_progress_is_of_the_whole_run_and_the_next_one_knows_its_time(store: Store) -> None:
    first, told = trained(store, 0)
    fractions = [p.fraction for p in told]
    assert fractions == sorted(fractions) and fractions[0] < 0.1 and fractions[-1] == 1
    assert max(p.fraction for p in told if p.stage == "Training") < 1  # measuring is still to come
    assert any(p.title == "Training, epoch 1 of 1" for p in told)
    assert told[0].seconds_left is None  # nothing told
    names = [(t.stage, t.at) for t in first.stages]
    assert names[:3] == [(LOADING, None), ("Quantizing", 0), ("Training", 1)]
    assert LATENCY in {t.stage for t in first.stages}
    assert first.seconds == pytest.approx(sum(t.seconds for t in first.stages), rel=0.1)
    assert first.stages[2].training_steps == 12
    second, again = trained(store, 1)
    # all of the first one's stages, but for a step that took so long that its result was kept
    expected = estimate(second.recipe, [first], None)
    assert again[0].seconds_left == pytest.approx(expected, rel=0.1)
