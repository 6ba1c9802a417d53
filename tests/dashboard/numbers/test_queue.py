"""The queue: who is in it, in what order, and how that is said."""

from __future__ import annotations

import pytest

from compression.runs.results import ACTIVE, State
from compression.runs.store import Store, new_run
from dashboard.numbers.queue import queue_of
from tests.dashboard.runs import MODEL, recipe


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
