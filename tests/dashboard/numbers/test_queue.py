"""The queue: who is in it, in what order, and how that is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.runs.progress import Progress
from compression.runs.results import ACTIVE, State
from compression.runs.store import Store, StoredRun, new_run
from dashboard.numbers.queue import QueuePlace, places, queue_of, seconds_until_start
from tests.dashboard.runs import MODEL, recipe

SECONDS = st.integers(0, 1000).map(float)  # so that sums are exact


def queued(store: Store, *owners: str) -> None:
    for place, owner in enumerate(owners):
        run = new_run(MODEL, "fashion-mnist", recipe(sparsity=0.1 + place / 10))
        store.runs.add(run, "cpu", owner)


def test_runs_are_taken_in_the_order_in_which_they_are_shown(store: Store) -> None:
    queued(store, "Ada", "Grace", "Ada", "Alan")
    shown = [e.run.id for e in queue_of(store.runs.find(states=ACTIVE)).waiting]
    taken = [job.run_id for _ in shown if (job := store.jobs.claim("runner"))]
    assert taken == shown
    queue = queue_of(store.runs.find())
    assert [e.run.id for e in queue.running] == taken and not queue.waiting


@pytest.mark.parametrize(
    ("claimed", "owner", "says"),
    [
        (0, "Alan", "4 waiting; your next run is number 4"),
        (1, "Ada", "1 running, 3 waiting; your next run is number 2"),
        (1, "Grace", "1 running, 3 waiting; your next run is number 1"),
        (2, "Grace", "2 running, 2 waiting"),
        (1, "", "1 running, 3 waiting"),
        (4, "Ada", "4 running"),
    ],
)
def test_a_sentence_says_when_it_is_whose_turn(
    store: Store, claimed: int, owner: str, says: str
) -> None:
    queued(store, "Ada", "Grace", "Ada", "Alan")
    for _ in range(claimed):
        store.jobs.claim("runner")
    assert queue_of(store.runs.find()).sentence(owner) == says


def test_what_has_ended_is_in_no_queue(store: Store) -> None:
    queued(store, "Ada", "Ada")
    store.jobs.cancel(store.runs.find()[0].run.id)
    queue = queue_of(store.runs.find())
    assert queue.length == 1 and queue.waiting[0].run.state is State.QUEUED


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

    starting = places(queue_of(active), seconds_of, now)
    starts = (30, 130, 150)
    assert starting == {
        run.id: QueuePlace(place, pytest.approx(seconds))
        for place, (run, seconds) in enumerate(zip(runs[1:], starts, strict=True), 1)
    }


def test_a_run_without_a_report_yet_goes_by_what_it_will_take(store: Store) -> None:
    for bits in (4, 5):
        store.runs.add(new_run(MODEL, "fashion-mnist", recipe(bits=bits)))
    store.jobs.claim("runner")
    running, waiting = store.runs.find()
    queue = queue_of([running, waiting])
    (place,) = places(queue, lambda _: 60.0, running.updated + 15).values()
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
