"""What a worker passes on of the engine's reports, and what it asks of the engine."""

from __future__ import annotations

import time
from typing import Any

import pytest

from compression.errors import Cancelled
from compression.jobs import worker
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill
from compression.runs.progress import Curve, Point, Progress
from compression.runs.store import Job, Store, new_run


def point(step: int) -> Point:
    return Point(
        step=step,
        epoch=step / 10,
        loss=1.0,
        hard=None,
        soft=1.0,
        learning_rate=0.1,
        images_per_second=100.0,
    )


def trained(at: int, steps: int, **more: Any) -> Progress:
    """A report with a new curve of so many points."""
    points = tuple(point(i) for i in range(steps))
    drawn = Curve(at=at, epochs=1.0, points=points)
    return Progress(stage="Training", fraction=0.5, keeps=True, curve=drawn, **more)


@pytest.fixture
def running(store: Store) -> Job:
    store.runs.add(new_run("m", None, Recipe(steps=(Distill(epochs=100),))))
    job = store.jobs.claim("one")
    assert job is not None
    return job


def test_curves_are_stored_while_it_trains_and_the_last_of_each_step_always(
    store: Store, running: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = worker.Reporter(store, running)
    drawn: list[int] = []
    for steps in range(1, 40):
        report(trained(0, steps))
        drawn.append(len(store.curves.get(running.run_id)[0].points))
    assert drawn[0] == 1  # at once
    assert len(set(drawn)) <= 3  # and then about once a second
    report(trained(2, 5))
    assert len(store.curves.get(running.run_id)[0].points) == 39
    report(trained(2, 7))
    report.flush()
    assert [(c.at, len(c.points)) for c in store.curves.get(running.run_id)] == [(0, 39), (2, 7)]
    monkeypatch.setattr(worker, "CURVE_SECONDS", 0.05)
    report(trained(2, 8))
    time.sleep(0.1)
    report(Progress(stage="Measuring", fraction=0.9))  # one without a curve brings it along
    assert len(store.curves.get(running.run_id)[-1].points) == 8


def test_a_checkpoint_is_never_dropped_however_soon_it_comes(store: Store, running: Job) -> None:
    report = worker.Reporter(store, running)
    report(trained(0, 1))
    assert not store.jobs.resume(running)
    report(trained(0, 2, saved=True))
    assert store.jobs.resume(running)


def test_a_training_that_is_cancelled_is_asked_to_keep_what_there_is_once(
    store: Store, running: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "REPORT_SECONDS", 0.0)
    report = worker.Reporter(store, running)
    store.jobs.cancel(running.run_id)
    with pytest.raises(Cancelled):
        report(trained(0, 1))
    report(Progress(stage="Measuring", fraction=0.9))  # the rest goes on
    store.jobs.cancel(running.run_id)
    with pytest.raises(Cancelled):
        report(Progress(stage="Measuring", fraction=0.9))
    assert store.runs.get(running.run_id).cancelling


def test_a_training_that_was_cut_short_stays_so_when_its_worker_dies_while_measuring(
    store: Store, running: Job
) -> None:
    run = store.runs.get(running.run_id).run
    store.jobs.saved(running)
    store.jobs.cancel(run.id)
    with pytest.raises(Cancelled):
        worker.Reporter(store, running)(trained(0, 1))
    assert store.jobs.resume(running)
    again = store.jobs.claim("two")
    assert again is not None and not again.cancelling
    report = worker.Reporter(store, again)
    report(Progress(stage="Loading", fraction=0.0))
    with pytest.raises(Cancelled):
        report(trained(0, 1))
    report(Progress(stage="Measuring", fraction=0.9))
    assert store.runs.finish(again, run)
    ended = store.jobs.get(run.id)
    assert ended is not None and not ended.cut_short


def test_where_nothing_can_be_kept_a_cancelled_run_stays_cancelled(
    store: Store, running: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "REPORT_SECONDS", 0.0)
    report = worker.Reporter(store, running)
    store.jobs.cancel(running.run_id)
    for _ in range(2):
        with pytest.raises(Cancelled):
            report(Progress(stage="Pruning", fraction=0.1))


def test_a_stop_that_comes_just_after_the_training_loses_nothing(
    store: Store, running: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "REPORT_SECONDS", 0.0)
    report = worker.Reporter(store, running)
    report(trained(0, 3))
    store.jobs.cancel(running.run_id)  # the page still offered to stop and keep
    report(Progress(stage="Packing", fraction=0.0))
    assert not store.runs.get(running.run_id).cancelling
    store.jobs.cancel(running.run_id)  # now it offers to cancel
    with pytest.raises(Cancelled):
        report(Progress(stage="Packing", fraction=0.5))
