"""Where a queued run stands in the queue, and when it starts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.runs.progress import Progress
from compression.runs.store import Store, StoredRun, new_run
from dashboard.numbers.queue_place import QueuePlace, queue_place, seconds_until_start
from tests.dashboard.runs import MODEL, recipe

SECONDS = st.floats(0, 1000)


@pytest.mark.parametrize(
    ("running", "ahead", "seconds"),
    [
        ([30.0], [], 30),
        ([30.0], [60.0, 5.0], 95),
        ([30.0, 10.0], [60.0], 30),  # the quicker worker takes the one ahead
        ([30.0, 10.0], [5.0], 15),
        ([30.0, None], [], None),
        ([30.0], [None], None),
        ([], [], None),  # nothing says that there is a worker
    ],
)
def test_the_time_until_a_run_starts(
    running: list[float | None], ahead: list[float | None], seconds: float | None
) -> None:
    assert seconds_until_start(running, ahead) == seconds


@given(st.lists(SECONDS, min_size=1, max_size=4), st.lists(SECONDS, max_size=6))
def test_who_is_further_back_never_starts_sooner(running: list[float], ahead: list[float]) -> None:
    starts = [seconds_until_start(running, ahead[:n]) for n in range(len(ahead) + 1)]
    known = [s for s in starts if s is not None]
    assert known == sorted(known) and len(known) == len(starts)
    assert known[-1] <= max(running) + sum(ahead)


def test_all_models_and_all_people_are_in_one_queue(store: Store) -> None:
    runs = [
        new_run(model, "fashion-mnist", recipe(bits=bits))
        for bits, model in enumerate([MODEL, "fashion-mnist/squeezenet1_1", MODEL, MODEL], 4)
    ]
    for run, owner in zip(runs, ("a", "b", "c", "a"), strict=True):
        store.runs.add(run, owner=owner)
    job = store.jobs.claim("runner")
    assert job is not None
    store.jobs.report(job, Progress(stage="Packing", fraction=0.5, seconds_left=40))
    active = store.runs.find()
    now = active[0].updated + 10

    def seconds_of(entry: StoredRun) -> float:
        return {runs[1].id: 100.0, runs[2].id: 20.0}[entry.run.id]

    places = [queue_place(run.id, active, seconds_of, now) for run in runs]
    assert places[0] is None  # it runs
    assert places[1:] == [
        QueuePlace(1, pytest.approx(30)),
        QueuePlace(2, pytest.approx(130)),
        QueuePlace(3, pytest.approx(150)),
    ]


def test_a_run_without_a_report_yet_goes_by_what_it_will_take(store: Store) -> None:
    for bits in (4, 5):
        store.runs.add(new_run(MODEL, "fashion-mnist", recipe(bits=bits)))
    store.jobs.claim("runner")
    running, waiting = store.runs.find()
    place = queue_place(waiting.run.id, [running, waiting], lambda _: 60.0, running.updated + 15)
    assert place == QueuePlace(1, pytest.approx(45))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (QueuePlace(1, None), "First in the queue"),
        (QueuePlace(2, 117.0), "Second in the queue · starts in about 2 min"),
        (QueuePlace(12, 0.0), "No. 12 in the queue · starts in about 1 s"),
    ],
)
def test_the_place_in_words(place: QueuePlace, words: str) -> None:
    assert place.words == words
