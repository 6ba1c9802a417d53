"""The store: what goes in comes out, the life of a run, many processes at once, bad places."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from compression.errors import InvalidInput, StoreError
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Prune
from compression.runs import documents
from compression.runs.jobs import MAX_DEATHS
from compression.runs.progress import Progress
from compression.runs.results import ACTIVE, Run, State
from compression.runs.store import Job, Store, new_run, open_store
from tests.compression.example_runs import curve

RECIPE = Recipe(steps=(Prune(sparsity=0.5),))


def queue(store: Store, model: str = "m") -> Run:
    run = new_run(model, None, RECIPE)
    store.runs.add(run, "cpu")
    return run


def claim(store: Store, owner: str) -> Job:
    job = store.jobs.claim(owner)
    assert job is not None
    return job


def current(store: Store, run: Run) -> Job:
    job = store.jobs.get(run.id)
    assert job is not None
    return job


def state(store: Store, run: Run) -> State:
    return store.runs.get(run.id).run.state


def test_what_goes_in_comes_out(store: Store) -> None:
    run = queue(store)
    entry = store.runs.get(run.id)
    assert entry.run == run
    assert (entry.device, entry.attempts, entry.progress) == ("cpu", 0, None)
    assert open_store(store.url).runs.get(run.id) == entry


def test_entries_are_oldest_first_and_can_be_chosen(store: Store) -> None:
    ids = [queue(store, m).id for m in ("a", "b", "a")]
    store.jobs.claim("one")
    assert [e.run.id for e in store.runs.find()] == ids
    assert [e.run.id for e in store.runs.find(model="a")] == [ids[0], ids[2]]
    assert [e.run.id for e in store.runs.find(states=(State.RUNNING,))] == ids[:1]
    assert len(store.runs.find(states=ACTIVE)) == 3


def test_a_run_is_found_by_the_beginning_of_its_id_if_only_one_begins_so(store: Store) -> None:
    for name in ("abc1", "abd2"):
        store.runs.add(new_run("m", None, RECIPE).model_copy(update={"id": name}))
    assert store.runs.get("abc").run.id == "abc1"
    for bad in ("ab", "", "%", "a_c1", "zz", "abc1'"):
        with pytest.raises(InvalidInput, match="run: got"):
            store.runs.get(bad)


def test_a_finished_run_keeps_its_figures_and_cannot_end_again(store: Store) -> None:
    run = queue(store)
    job = claim(store, "one")
    assert store.runs.finish(job, run.model_copy(update={"seconds": 2.5, "notes": ("n",)}))
    kept = store.runs.get(run.id).run
    assert (kept.state, kept.seconds, kept.notes) == (State.DONE, 2.5, ("n",))
    assert not store.jobs.fail(job, "late")
    assert not store.jobs.stopped(job)
    store.jobs.cancel(run.id)
    assert store.runs.get(run.id).run == kept


def test_a_failed_run_says_why_and_keeps_the_traceback(store: Store) -> None:
    run = queue(store)
    assert store.jobs.fail(claim(store, "one"), "It broke.", "Traceback: here")
    entry = store.runs.get(run.id)
    assert (entry.run.state, entry.run.notes) == (State.FAILED, ("It broke.",))
    assert entry.traceback == "Traceback: here"


def test_progress_is_seen_until_the_run_ends(store: Store) -> None:
    run = queue(store)
    job = claim(store, "one")
    progress = Progress(stage="Pruning", fraction=0.5, seconds_left=3.0)
    assert store.jobs.report(job, progress) is False
    assert store.runs.get(run.id).progress == progress
    store.runs.finish(job, run)
    assert store.runs.get(run.id).progress is None
    assert store.jobs.report(job, progress) is True


def test_cancelling_queued_is_at_once_and_running_at_the_next_report(store: Store) -> None:
    first, second = queue(store), queue(store)
    job = claim(store, "one")
    for run in (first, second):
        store.jobs.cancel(run.id)
    assert (state(store, first), state(store, second)) == (State.RUNNING, State.CANCELLED)
    assert store.runs.get(first.id).cancelling
    assert store.jobs.report(job, Progress(stage="s", fraction=0)) is True
    assert store.jobs.stopped(job)
    assert state(store, first) is State.CANCELLED
    assert store.jobs.claim("one") is None


def test_only_the_owner_may_end_a_run(store: Store) -> None:
    run = queue(store)
    lost = claim(store, "one")
    store.jobs.recover(silent_seconds=-1)
    job = claim(store, "two")
    assert store.jobs.report(lost, Progress(stage="s", fraction=0)) is True
    assert not store.runs.finish(lost, run)
    assert not store.jobs.fail(lost, "no")
    assert not store.jobs.stopped(lost)
    assert store.jobs.report(job, Progress(stage="s", fraction=0)) is False
    assert store.runs.finish(job, run)


def test_release_queues_the_owners_runs_again(store: Store) -> None:
    run, other = queue(store), queue(store)
    claim(store, "one")
    claim(store, "two")
    store.jobs.release("one")
    assert (state(store, run), state(store, other)) == (State.QUEUED, State.RUNNING)
    assert claim(store, "three").attempts == 2


@pytest.mark.slow
def test_recover_takes_only_runs_nobody_speaks_for(store: Store) -> None:
    run = queue(store)
    claim(store, "one")
    time.sleep(0.3)
    store.jobs.beat("one")
    store.jobs.recover(silent_seconds=0.2)
    assert state(store, run) is State.RUNNING
    time.sleep(0.3)
    store.jobs.beat("two")
    store.jobs.recover(silent_seconds=0.2)
    assert state(store, run) is State.QUEUED


def test_a_runner_that_goes_or_dies_says_nothing_against_the_run(store: Store) -> None:
    run = queue(store)
    for attempt in range(1, 9):
        assert claim(store, "one").attempts == attempt
        if attempt % 2:
            store.jobs.release("one")
        else:
            store.jobs.recover(silent_seconds=-1)
        assert state(store, run) is State.QUEUED
    assert store.runs.finish(claim(store, "one"), run)


def test_a_cancelled_run_is_not_queued_again(store: Store) -> None:
    run = queue(store)
    claim(store, "one")
    store.jobs.cancel(run.id)
    store.jobs.recover(silent_seconds=-1)
    assert state(store, run) is State.CANCELLED


def test_facts_are_kept_by_kind_and_name_and_replaced(store: Store) -> None:
    assert store.facts.get("weights", "m") is None
    for body in ({"a": 1}, {"b": [2.5, None]}):
        store.facts.put("weights", "m", body)
        assert open_store(store.url).facts.get("weights", "m") == body
    assert store.facts.get("certificate", "m") is None


def test_facts_of_a_kind_are_found_together(store: Store) -> None:
    bodies = {"m": {"a": 1}, "n": {"b": 2}}
    for name, body in bodies.items():
        store.facts.put("weights", name, body)
    store.facts.put("person", "m", {"name": "Ada"})
    assert store.facts.all("weights") == bodies
    assert store.facts.all("none") == {}


def test_curves_are_kept_by_step_replaced_and_come_in_order(store: Store) -> None:
    run, other = queue(store), queue(store)
    for drawn in (curve(10), curve(2), curve(2, (3.0, 2.0, 1.0))):
        store.curves.put(run.id, drawn)
    assert open_store(store.url).curves.get(run.id) == [curve(2, (3.0, 2.0, 1.0)), curve(10)]
    assert store.curves.get(other.id) == store.curves.get(run.id[:4]) == store.curves.get("%") == []


def test_what_is_kept_of_a_run_goes_with_it(store: Store) -> None:
    run, other = queue(store), queue(store)
    for each in (run, other):
        store.curves.put(each.id, curve())
        store.facts.put("certificate", each.id, {"a": 1})
    store.runs.delete(run.id)
    assert store.curves.get(run.id) == []
    assert store.facts.get("certificate", run.id) is None
    assert store.curves.get(other.id) == [curve()]
    assert store.facts.get("certificate", other.id) == {"a": 1}
    store.curves.put(run.id, curve())  # of its worker, which has not heard of it yet
    assert store.curves.get(run.id) == []


def test_a_curve_this_version_cannot_read_is_said(store: Store) -> None:
    run = queue(store)
    store.facts.put("curve", f"{run.id}:0", {"at": 0})
    with pytest.raises(StoreError, match=f"a curve of run {run.id} cannot be read"):
        store.curves.get(run.id)


def test_the_file_of_a_run_is_kept_replaced_and_goes_with_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = queue(store), queue(store)
    assert store.files.get(one.id) is None
    assert store.files.put(one.id, b"\x00first")
    assert store.files.put(one.id, bytes(range(256)))
    assert store.files.put(other.id, b"other")
    assert open_store(store.url).files.get(one.id) == bytes(range(256))
    monkeypatch.setattr(documents, "MOST_FILE_BYTES", 4)
    assert not store.files.put(other.id, b"large")
    assert store.files.get(other.id) == b"other"
    assert not store.files.put("none", b"run")
    assert store.files.get("none") is None
    store.runs.delete(one.id)
    assert store.files.get(one.id) is None
    assert store.files.get(other.id) == b"other"


def test_a_store_made_before_files_were_kept_gets_room_for_them(store: Store) -> None:
    run = queue(store)
    engine = sa.create_engine(store.url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE files"))
    again = open_store(store.url)
    assert again.files.get(run.id) is None
    assert again.files.put(run.id, b"file")
    assert again.files.get(run.id) == b"file"


def test_a_fact_is_added_once(store: Store) -> None:
    assert store.facts.add("kind", "name", {"a": 1})
    assert not open_store(store.url).facts.add("kind", "name", {"a": 2})
    assert store.facts.get("kind", "name") == {"a": 1}


PROGRESS = Progress(stage="Training", fraction=0.5, keeps=True)


def test_a_request_to_cancel_that_was_fulfilled_is_over_and_another_counts(store: Store) -> None:
    run = queue(store)
    job = claim(store, "one")
    store.jobs.cancel(run.id)
    assert store.jobs.report(job, PROGRESS) is True
    store.jobs.kept(replace(job, owner="two"))
    assert store.jobs.report(job, PROGRESS) is True
    store.jobs.kept(job)
    assert store.jobs.report(job, PROGRESS) is False
    assert not store.runs.get(run.id).cancelling
    store.jobs.cancel(run.id)
    assert store.jobs.report(job, PROGRESS) is True


def test_a_run_that_saves_checkpoints_may_be_interrupted_any_number_of_times(store: Store) -> None:
    run = queue(store)
    for _ in range(2 * MAX_DEATHS):
        job = claim(store, "one")
        store.jobs.saved(replace(job, owner="two"))
        store.jobs.saved(job)
        assert store.jobs.resume(job)
        assert state(store, run) is State.QUEUED
    assert not store.jobs.resume(claim(store, "one"))


def test_a_checkpoint_of_another_owner_does_not_count(store: Store) -> None:
    run = queue(store)
    job = claim(store, "one")
    other = replace(job, owner="two")
    store.jobs.saved(other)
    assert not store.jobs.resume(job)
    store.jobs.saved(job)
    assert not store.jobs.resume(other)
    assert store.jobs.resume(job)
    entry = store.runs.get(run.id)
    assert (entry.run.state, entry.runner, entry.progress) == (State.QUEUED, None, None)


def test_a_run_resumes_only_if_it_got_further_and_is_still_wanted(store: Store) -> None:
    run = queue(store)
    job = claim(store, "one")
    assert not store.jobs.resume(job)
    store.jobs.saved(job)
    assert store.jobs.resume(job)
    job = claim(store, "one")
    assert not store.jobs.resume(job)
    store.jobs.saved(job)
    store.jobs.cancel(run.id)
    assert not store.jobs.resume(job)
    assert store.jobs.stopped(job)
    assert not current(store, run).saved


# The life of a run, under any order of events


class Life(RuleBasedStateMachine):
    """However things happen: no run is lost, ended runs stay, none dies in one place for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.store = open_store("sqlite://")
        self.ended: dict[str, Run] = {}

    def _running(self) -> list[Job]:
        running = self.store.runs.find(states=(State.RUNNING,))
        return [current(self.store, entry.run) for entry in running]

    @rule()
    def add(self) -> None:
        queue(self.store)

    @rule(owner=st.sampled_from(["one", "two"]))
    def claim(self, owner: str) -> None:
        queued = self.store.runs.find(states=(State.QUEUED,))
        job = self.store.jobs.claim(owner)
        assert (job and job.run_id) == (queued[0].run.id if queued else None)

    @rule(how=st.sampled_from(["finish", "fail", "stopped"]), owner=st.sampled_from(["one", "two"]))
    def end(self, how: str, owner: str) -> None:
        for job in self._running()[:1]:
            mine = replace(job, owner=owner)
            if how == "finish":
                changed = self.store.runs.finish(mine, self.store.runs.get(job.run_id).run)
            elif how == "fail":
                changed = self.store.jobs.fail(mine, "reason")
            else:
                changed = self.store.jobs.stopped(mine)
            assert changed is (job.owner == owner)

    @rule(owner=st.sampled_from(["one", "two"]))
    def release(self, owner: str) -> None:
        self.store.jobs.release(owner)
        assert not any(job.owner == owner for job in self._running())

    @rule(owner=st.sampled_from(["one", "two"]))
    def save(self, owner: str) -> None:
        for job in self._running():
            self.store.jobs.saved(replace(job, owner=owner))
            now = self.store.jobs.get(job.run_id)
            assert now is not None and now.deaths == (0 if job.owner == owner else job.deaths)

    @rule(owner=st.sampled_from(["one", "two"]))
    def resume(self, owner: str) -> None:
        for job in self._running()[:1]:
            resumed = self.store.jobs.resume(replace(job, owner=owner))
            now = self.store.jobs.get(job.run_id)
            assert now is not None
            assert now.state is (State.QUEUED if resumed else State.RUNNING)
            assert now.deaths == job.deaths + resumed

    @rule()
    def recover(self) -> None:
        self.store.jobs.recover(silent_seconds=-1)
        assert not self._running()

    @rule(at=st.integers(0, 20))
    def cancel(self, at: int) -> None:
        known = self.store.runs.find()
        if known:
            entry = known[at % len(known)]
            self.store.jobs.cancel(entry.run.id)
            after = self.store.runs.get(entry.run.id)
            if entry.run.state in ACTIVE:
                assert after.run.state is State.CANCELLED or after.cancelling

    @rule(at=st.integers(0, 20))
    def remove_and_restore(self, at: int) -> None:
        known = self.store.runs.find()
        if known:
            before = known[at % len(known)].run
            self.store.runs.remove(before.id)
            assert before.id not in {e.run.id for e in self.store.runs.find()}
            self.store.runs.restore(before.id)
            after = self.store.runs.get(before.id).run
            cancelled = before.model_copy(update={"state": State.CANCELLED})
            assert after == (cancelled if before.state in ACTIVE else before)

    @invariant()
    def ended_runs_stay_as_they_are(self) -> None:
        now = {e.run.id: e for e in self.store.runs.find()}
        for name, run in self.ended.items():
            assert now[name].run == run
        known = [current(self.store, e.run) for e in now.values()]
        assert all(job.deaths < MAX_DEATHS for job in known)
        assert not any(job.saved for job in known if job.state not in ACTIVE)
        self.ended = {n: e.run for n, e in now.items() if e.run.state not in ACTIVE}


TestLife = pytest.mark.slow(Life.TestCase)
TestLife.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


# Many processes at once


def take_all(url: str, owner: str) -> list[str]:
    """Claim, report and finish until nothing is queued."""
    store, taken = open_store(url), []
    while job := store.jobs.claim(owner):
        taken.append(job.run_id)
        store.jobs.report(job, Progress(stage="s", fraction=0.5))
        assert store.runs.finish(job, store.runs.get(job.run_id).run)
    return taken


@pytest.mark.slow
def test_many_processes_open_a_new_store_at_once_and_each_run_is_done_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'deep' / 'runs.sqlite'}"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        opened = pool.starmap(take_all, [(url, f"o{i}") for i in range(4)], chunksize=1)
        assert opened == [[]] * 4
        store = open_store(url)
        ids = [queue(store).id for _ in range(60)]
        taken = pool.starmap(take_all, [(url, f"p{i}") for i in range(4)], chunksize=1)
    assert sorted(name for names in taken for name in names) == sorted(ids)
    assert {e.run.state for e in store.runs.find()} == {State.DONE}
    assert {e.attempts for e in store.runs.find()} == {1}


# Bad places


@pytest.mark.parametrize(
    "url",
    [
        "runs.sqlite",
        "nothing://x",
        "sqlite:////dev/null/runs.sqlite",
        "sqlite:////proc/runs.sqlite",
        "postgresql+nodriver://u@h/d",
        "",
    ],
)
def test_a_store_that_cannot_be_opened_is_said_in_one_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not url:
        (tmp_path / "runs.sqlite").write_bytes(b"this is no database" * 100)
        url = f"sqlite:///{tmp_path / 'runs.sqlite'}"
    with pytest.raises(StoreError, match=r"^store: ") as caught:
        open_store(url)
    assert "\n" not in str(caught.value)


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store("postgresql+nodriver://person:secret@host/name")
    assert "secret" not in str(caught.value)


def test_a_newer_store_is_left_alone(store: Store) -> None:
    store.facts.put("store", "schema", {"version": 99})
    with pytest.raises(StoreError, match="newer version"):
        open_store(store.url)


def test_a_run_this_version_cannot_read_is_named(store: Store) -> None:
    run = queue(store)
    engine = sa.create_engine(store.url)
    with engine.begin() as c:
        c.execute(sa.text("update runs set body = '{\"id\": 1}'"))
    with pytest.raises(StoreError, match=f"run {run.id} cannot be read"):
        store.runs.find()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing_half_written(small_disk: Path) -> None:
    store = open_store(f"sqlite:///{small_disk / 'runs.sqlite'}")
    added: list[str] = []

    def fill() -> None:
        for _ in range(1000):
            run = new_run("m", None, RECIPE).model_copy(update={"notes": ("x" * 4000,)})
            store.runs.add(run)
            added.append(run.id)

    with pytest.raises(StoreError, match="cannot write") as caught:
        fill()
    assert "\n" not in str(caught.value)
    assert "full" in str(caught.value)
    assert added
    assert [e.run.id for e in store.runs.find()] == added
