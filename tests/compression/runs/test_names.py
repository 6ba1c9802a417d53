"""What persons say of runs: names, owners, pinned, hidden; removed, brought back."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from compression.errors import InvalidInput, QueueFull
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune
from compression.runs.progress import Progress
from compression.runs.records import REMOVED_SECONDS
from compression.runs.results import Run, State
from compression.runs.store import Job, Kind, Store, StoredRun, new_run, open_store
from compression.runs.stored_run import one_line
from tests.compression.example_runs import curve

RECIPE = Recipe(steps=(Prune(sparsity=0.5),))


def queue(store: Store, recipe: Recipe = RECIPE, device: str = "cpu", owner: str = "") -> Run:
    run = new_run("m", None, recipe)
    store.runs.add(run, device, owner)
    return run


def claim(store: Store) -> Job:
    job = store.jobs.claim("runner")
    assert job is not None
    return job


def ids(entries: list[StoredRun]) -> list[str]:
    return [entry.run.id for entry in entries]


# Names and owners


def test_a_run_is_called_by_its_recipe_until_it_is_given_a_name(store: Store) -> None:
    run = queue(store, owner=" Ada ")
    entry = store.runs.get(run.id)
    assert (entry.name, entry.title, entry.owner, entry.runner) == ("", "50 % · Fast", "Ada", None)
    store.runs.rename(run.id[:6], "  My first: 50 % · é漢👩‍🚀 ")
    assert store.runs.get(run.id).title == "My first: 50 % · é漢👩‍🚀"
    claim(store)
    assert (store.runs.get(run.id).owner, store.runs.get(run.id).runner) == ("Ada", "runner")
    assert store.runs.finish(claim_of(store, run), run)
    assert store.runs.get(run.id).title.startswith("My first")
    store.runs.rename(run.id, " ")
    assert store.runs.get(run.id).title == "50 % · Fast"
    store.runs.add(new_run("m", None, RECIPE), name="Given at once")
    assert store.runs.find()[-1].title == "Given at once"


def claim_of(store: Store, run: Run) -> Job:
    job = store.jobs.get(run.id)
    assert job is not None
    return job


@pytest.mark.parametrize("name", ["x" * 61, "two\nlines", "nul\0", "not-utf8-\udcff", "a\u2028b"])
def test_a_name_that_is_no_line_is_refused_and_nothing_changes(store: Store, name: str) -> None:
    run = queue(store)
    for field, call in (
        ("name", lambda: store.runs.rename(run.id, name)),
        ("name", lambda: store.runs.add(new_run("m", None, RECIPE), name=name)),
        ("owner", lambda: store.runs.add(new_run("m", None, RECIPE), owner=name)),
        ("owner", lambda: store.runs.add_once(new_run("n", None, RECIPE), owner=name)),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert str(caught.value).startswith(f"{field}: got ")
        assert str(caught.value).endswith("allowed: one line of at most 60 characters")
    assert ids(store.runs.find()) == [run.id] and store.runs.get(run.id).name == ""


@given(st.text())
def test_a_name_is_refused_or_one_line_that_is_taken_as_it_is(text: str) -> None:
    try:
        line = one_line("name", text)
    except InvalidInput:
        assert len(text.strip()) > 60 or not text.isprintable()
    else:
        assert one_line("name", line) == line == line.strip()
        assert len(line) <= 60 and len(line.splitlines()) <= 1
        line.encode()


def test_pinned_and_hidden_are_remembered_until_they_are_taken_back(store: Store) -> None:
    run, other = queue(store), queue(store)
    for on in (True, True, False):
        store.runs.pin(run.id, on)
        store.runs.hide(run.id, on)
        entry = open_store(store.url).runs.get(run.id)
        assert (entry.pinned, entry.hidden) == (on, on)
    assert store.runs.get(other.id).pinned is store.runs.get(other.id).hidden is False


def test_what_is_said_of_a_run_that_is_not_there_is_refused(store: Store) -> None:
    gone = queue(store)
    store.runs.remove(gone.id)
    for run_id in ("none", "%", "", gone.id):
        for call in (
            lambda run_id=run_id: store.runs.rename(run_id, "x"),
            lambda run_id=run_id: store.runs.pin(run_id, True),
            lambda run_id=run_id: store.runs.hide(run_id, True),
            lambda run_id=run_id: store.runs.remove(run_id),
        ):
            with pytest.raises(InvalidInput, match=r"allowed: an id listed by `compression runs`$"):
                call()
    with pytest.raises(InvalidInput, match=r"an id listed by `compression runs --removed`$"):
        store.runs.restore(queue(store).id)


# Removed and brought back


def test_a_removed_run_is_found_nowhere_and_comes_back_as_it_was(store: Store) -> None:
    run, other = queue(store), queue(store)
    assert store.runs.finish(claim(store), run)
    store.runs.rename(run.id, "Mine")
    store.curves.put(run.id, curve())
    store.files.put(run.id, b"file")
    before = store.runs.get(run.id)
    store.runs.remove(run.id)
    assert ids(store.runs.find()) == ids(store.runs.find("m")) == [other.id]
    assert store.runs.find(states=(State.DONE,)) == []
    for call in (store.runs.get, store.latency.request):
        with pytest.raises(InvalidInput, match="run: got"):
            call(run.id)
    (removed,) = open_store(store.url).runs.find(removed=True)
    assert removed.removed is not None and replace(removed, removed=None) == before
    store.runs.restore(run.id[:6])
    assert store.runs.get(run.id) == before
    assert ids(store.runs.find()) == [run.id, other.id]
    assert store.curves.get(run.id) == [curve()] and store.files.get(run.id) == b"file"


def test_a_removed_run_makes_room_for_the_beginning_of_another_id(store: Store) -> None:
    for name in ("abc1", "abc2"):
        store.runs.add(new_run("m", None, RECIPE).model_copy(update={"id": name}))
    store.runs.remove("abc1")
    assert store.runs.get("abc").run.id == "abc2"


def test_removing_a_queued_run_cancels_it(store: Store) -> None:
    run = queue(store)
    store.runs.remove(run.id)
    assert store.jobs.claim("runner") is None
    store.runs.restore(run.id)
    assert store.runs.get(run.id).run.state is State.CANCELLED
    assert store.jobs.claim("runner") is None


def test_the_worker_of_a_removed_run_stops_and_what_it_says_changes_nothing(store: Store) -> None:
    run = queue(store)
    job = claim(store)
    store.jobs.saved(job)
    store.runs.remove(run.id)
    assert store.jobs.report(job, Progress(stage="s", fraction=0.5, keeps=True)) is True
    store.jobs.kept(job)
    assert not store.jobs.resume(job) and not store.jobs.fail(job, "late")
    assert not store.runs.finish(job, run)
    store.jobs.recover(silent_seconds=-1)
    store.runs.restore(run.id)
    entry = store.runs.get(run.id)
    assert (entry.run.state, entry.run.notes, entry.progress) == (State.CANCELLED, (), None)


def test_a_latency_report_of_a_removed_run_is_no_longer_made(store: Store) -> None:
    run = queue(store)
    assert store.runs.finish(claim(store), run)
    store.latency.request(run.id)
    store.runs.remove(run.id)
    assert store.jobs.claim("runner", Kind.LATENCY) is None
    store.runs.restore(run.id)
    assert store.runs.get(run.id).run.state is State.DONE
    store.latency.request(run.id)
    assert store.jobs.claim("runner", Kind.LATENCY) is not None


def test_a_day_later_a_removed_run_is_deleted_when_the_store_is_opened(store: Store) -> None:
    run, recent, other = queue(store), queue(store), queue(store)
    for each in (run, recent, other):
        store.curves.put(each.id, curve())
        store.files.put(each.id, b"file")
    store.runs.remove(run.id)
    store.runs.remove(recent.id)
    with sa.create_engine(store.url).begin() as c:
        long_ago = {"t": time.time() - REMOVED_SECONDS - 1, "id": run.id}
        c.execute(sa.text("update runs set removed = :t where id = :id"), long_ago)
    again = open_store(store.url)
    assert ids(again.runs.find(removed=True)) == [recent.id]
    assert ids(again.runs.find()) == [other.id]
    assert again.jobs.get(run.id) is again.files.get(run.id) is None
    assert again.curves.get(run.id) == []
    again.runs.restore(recent.id)
    assert again.curves.get(recent.id) == again.curves.get(other.id) == [curve()]
    assert again.files.get(recent.id) == again.files.get(other.id) == b"file"


# Asked for by several


def test_a_run_under_way_is_found_by_model_and_recipe_until_it_ends(store: Store) -> None:
    assert store.runs.under_way("m", RECIPE.key) is None
    run = queue(store)
    queue(store)
    for _ in range(2):  # queued, then running
        found = store.runs.under_way("m", RECIPE.key)
        assert found is not None and found.run.id == run.id
        assert store.runs.under_way("n", RECIPE.key) is None
        assert store.runs.under_way("m", Recipe().key) is None
        assert store.runs.under_way("m", RECIPE.key, "cuda") is None
        assert store.runs.under_way("m", RECIPE.key, "cpu") == found
        store.jobs.claim("runner")
    assert store.runs.finish(claim_of(store, run), run)
    found = store.runs.under_way("m", RECIPE.key)
    assert found is not None and found.run.id != run.id


@pytest.mark.parametrize("how", ["cancel", "cut short", "remove"])
def test_a_run_that_will_not_come_to_its_end_is_not_under_way(store: Store, how: str) -> None:
    trained = Recipe(steps=(Distill(epochs=9),))
    run = queue(store, trained)
    job = claim(store)
    if how == "remove":
        store.runs.remove(run.id)
    else:
        store.jobs.cancel(run.id)
    if how == "cut short":
        store.jobs.kept(job)
    assert store.runs.under_way("m", trained.key) is None
    asked = store.runs.add_once(new_run("m", None, trained), "cpu", "Ada")
    assert asked.run.id != run.id and asked.owner == "Ada"


def test_who_asks_for_what_is_under_way_is_given_it(store: Store) -> None:
    first = store.runs.add_once(new_run("m", None, RECIPE), "cpu", "Ada")
    second = store.runs.add_once(new_run("m", None, RECIPE), "auto", "Grace")
    assert second == first and first.owner == "Ada"
    other = store.runs.add_once(new_run("m", None, RECIPE), "cuda", "Grace")
    assert (other.owner, other.device) == ("Grace", "cuda")
    assert store.runs.find() == [first, other]


def ask(url: str, owner: str) -> str:
    """What a person is given who asks for a run that others ask for at the same time."""
    return open_store(url).runs.add_once(new_run("m", None, RECIPE), "cpu", owner).run.id


@pytest.mark.slow
def test_what_many_ask_for_at_once_is_computed_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.sqlite'}"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        asked = pool.starmap(ask, [(url, f"person {i}") for i in range(32)], chunksize=1)
    (entry,) = open_store(url).runs.find()
    assert set(asked) == {entry.run.id}


# How many runs of one person may wait


def runs_of(*sparsities: float) -> list[Run]:
    """A new run for each sparsity."""
    return [new_run("m", None, Recipe(steps=(Prune(sparsity=s),))) for s in sparsities]


def test_who_has_as_many_runs_waiting_as_allowed_is_refused_one_more(store: Store) -> None:
    first, second, third = runs_of(0.1, 0.2, 0.3)
    for run in (first, second):
        store.runs.add_once(run, owner="Ada", most_waiting=2)
    with pytest.raises(QueueFull) as caught:
        store.runs.add_once(third, owner="Ada", most_waiting=2)
    says = "You have 2 runs waiting; the limit here is 2. Cancel one or wait."
    assert str(caught.value) == says
    assert ids(store.runs.find()) == [first.id, second.id]
    assert store.runs.add_once(third, owner="Grace", most_waiting=2).owner == "Grace"


@pytest.mark.parametrize("how", ["claimed", "cancelled", "removed"])
def test_only_runs_that_wait_count(store: Store, how: str) -> None:
    first, second, third = runs_of(0.1, 0.2, 0.3)
    store.runs.add_once(first, owner="Ada", most_waiting=1)
    with pytest.raises(QueueFull):
        store.runs.add_once(second, owner="Ada", most_waiting=1)
    if how == "claimed":
        claim(store)
    elif how == "cancelled":
        store.jobs.cancel(first.id)
    else:
        store.runs.remove(first.id)
    assert store.runs.add_once(second, owner="Ada", most_waiting=1).run.id == second.id
    with pytest.raises(QueueFull, match="You have 1 run waiting"):
        store.runs.add_once(third, owner="Ada", most_waiting=1)


def test_what_is_under_way_is_given_to_whom_no_other_run_is_allowed(store: Store) -> None:
    under_way = store.runs.add_once(new_run("m", None, RECIPE), owner="Grace")
    again = store.runs.add_once(new_run("m", None, RECIPE), owner="Ada", most_waiting=0)
    assert again == under_way


def test_several_runs_are_queued_all_or_none(store: Store) -> None:
    store.runs.add_once(new_run("m", None, RECIPE), owner="Ada")
    with pytest.raises(QueueFull) as caught:
        store.runs.add_all_once(runs_of(0.1, 0.2, 0.3), owner="Ada", most_waiting=3)
    says = "These are 3 runs, and you have 1 run waiting; the limit here is 3."
    assert str(caught.value) == says
    assert len(store.runs.find()) == 1
    given = store.runs.add_all_once(runs_of(0.1, 0.5, 0.2, 0.1), owner="Ada", most_waiting=3)
    assert [e.run.recipe for e in given] == [r.recipe for r in runs_of(0.1, 0.5, 0.2, 0.1)]
    assert given[0] == given[3]  # the same is not queued twice
    assert len(store.runs.find()) == 3


def ask_within_two(url: str, sparsity: float) -> bool:
    """Whether a person who asks for many runs at the same time is given this one."""
    (run,) = runs_of(sparsity)
    try:
        open_store(url).runs.add_once(run, owner="Ada", most_waiting=2)
    except QueueFull:
        return False
    return True


@pytest.mark.slow
def test_who_asks_for_many_at_once_gets_as_many_as_allowed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.sqlite'}"
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        given = pool.starmap(ask_within_two, [(url, i / 20) for i in range(1, 13)], chunksize=1)
    assert sum(given) == len(open_store(url).runs.find()) == 2
