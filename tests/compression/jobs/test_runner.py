"""The runner with real worker processes: runs end, are cancelled, crash, and are taken up again."""

# mypy: allow-untyped-calls

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa
from distributed import Client

from compression.catalogue.cards import cards
from compression.errors import InvalidInput
from compression.jobs import runner as runner_module
from compression.jobs.dask_cluster import Deaths, parse_memory, start_cluster
from compression.jobs.runner import Runner
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize
from compression.runs.database import jobs
from compression.runs.progress import Progress
from compression.runs.results import ACTIVE, Run, State
from compression.runs.store import Job, Kind, Store, StoredRun, new_run, open_store

pytestmark = pytest.mark.slow


MODEL = min((c for c in cards().values() if c.bundled), key=lambda c: c.parameters)
SHORT = Recipe(steps=(Prune(sparsity=0.5), Quantize(bits=6)))
LONG = Recipe(steps=(Distill(epochs=100),))
SLOW = Recipe(steps=(Quantize(bits=4, rounding="reconstruct"),))  # tens of seconds
IMPOSSIBLE = Recipe(steps=(Prune(threshold=1e6),))
ENDED = (State.DONE, State.FAILED, State.CANCELLED)
PATIENCE = 150.0


def queue(store: Store, recipe: Recipe) -> Run:
    run = new_run(MODEL.id, MODEL.dataset, recipe)
    store.runs.add(run, "cpu")
    return run


def wait(store: Store, run: Run, reached: Callable[[StoredRun], bool]) -> StoredRun:
    """The run once it is so far; fails if it takes too long or ends in another way."""
    until = time.monotonic() + PATIENCE
    while not reached(entry := store.runs.get(run.id)):
        assert time.monotonic() < until, f"still {entry}"
        assert entry.run.state not in ENDED, f"ended as {entry}"
        time.sleep(0.05)
    return entry


def ended(entry: StoredRun) -> bool:
    return entry.run.state in ENDED


def training(entry: StoredRun) -> bool:
    return entry.progress is not None and entry.progress.keeps


def saved(store: Store, run: Run) -> bool:
    job = store.jobs.get(run.id)
    return job is not None and job.saved


def quantizing(entry: StoredRun) -> bool:
    return entry.progress is not None and entry.progress.stage == "Quantizing"


# The real thing: a runner process, its worker process, the engine


def start_runner(store: Store) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "compression.jobs", "--store", store.url]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def workers_of(runner: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = psutil.Process(runner.pid).children(recursive=True)
    return [c for c in children if "spawn_main" in " ".join(c.cmdline())]


def finish(runner: subprocess.Popen[bytes]) -> None:
    if runner.poll() is None:
        runner.kill()
    runner.wait()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(f"sqlite:///{tmp_path_factory.mktemp('jobs') / 'runs.sqlite'}")


@pytest.fixture(scope="module")
def runner(shared: Store) -> Iterator[subprocess.Popen[bytes]]:
    process = start_runner(shared)
    yield process
    finish(process)


def test_a_killed_worker_fails_a_run_that_cannot_go_on_and_the_next_run_says_how_far_it_is(
    shared: Store, runner: subprocess.Popen[bytes]
) -> None:
    run = queue(shared, SLOW)
    wait(shared, run, quantizing)
    for process in workers_of(runner):
        process.kill()
    entry = wait(shared, run, ended)
    assert entry.run.state is State.FAILED
    assert "killed by signal 9 SIGKILL" in entry.run.notes[-1]
    run = queue(shared, SHORT)
    entry = wait(shared, run, lambda e: e.progress is not None)
    assert entry.progress is not None
    assert 0 <= entry.progress.fraction <= 1
    entry = wait(shared, run, ended)
    assert entry.run.state is State.DONE, entry.traceback
    assert entry.run.compressed is not None
    assert entry.run.compressed.sparsity == pytest.approx(0.5, abs=0.1)
    assert entry.run.environment["split"] == "validation"
    assert_kept(shared, entry.run)


def assert_kept(store: Store, run: Run) -> None:
    """The file that was measured is kept with the run."""
    packed = store.files.get(run.id)
    assert packed is not None and run.compressed is not None
    assert len(packed) == run.compressed.artifact_bytes
    assert hashlib.sha256(packed).hexdigest() == run.environment["artifact_sha256"]


def test_a_run_that_cannot_be_done_fails_in_plain_words(
    shared: Store, runner: subprocess.Popen[bytes]
) -> None:
    run = queue(shared, IMPOSSIBLE)
    entry = wait(shared, run, ended)
    assert entry.run.state is State.FAILED
    assert "threshold" in entry.run.notes[-1]
    assert "Traceback" not in entry.run.notes[-1]
    assert "Traceback" in entry.traceback


def test_a_running_run_can_be_cancelled(shared: Store, runner: subprocess.Popen[bytes]) -> None:
    run = queue(shared, SLOW)
    wait(shared, run, quantizing)
    shared.jobs.cancel(run.id)
    cancelled_at = time.monotonic()
    assert wait(shared, run, ended).run.state is State.CANCELLED
    assert time.monotonic() - cancelled_at < 10


def test_a_killed_training_goes_on_and_a_cancelled_one_keeps_the_best_so_far(
    shared: Store, runner: subprocess.Popen[bytes]
) -> None:
    run = queue(shared, LONG)
    wait(shared, run, lambda e: training(e) and saved(shared, run))
    wait(shared, run, lambda e: bool(shared.curves.get(run.id)))  # drawn while it trains
    for process in workers_of(runner):
        process.kill()
    entry = wait(shared, run, lambda e: e.attempts == 2 and training(e))
    assert not entry.cancelling
    shared.jobs.cancel(run.id)
    entry = wait(shared, run, ended)
    assert (entry.run.state, entry.run.stopped_early) == (State.DONE, True)
    assert entry.run.compressed is not None and entry.run.compressed.top1 is not None
    assert_kept(shared, entry.run)
    (curve,) = shared.curves.get(run.id)
    assert curve.at == 0 and curve.epochs == 100
    assert curve.points[-1].top1 is not None
    assert not saved(shared, run)


def test_it_listens_on_the_loopback_address_only(
    shared: Store, runner: subprocess.Popen[bytes]
) -> None:
    wait(shared, queue(shared, IMPOSSIBLE), ended)
    processes = [psutil.Process(runner.pid), *workers_of(runner)]
    listening = [
        c.laddr.ip for p in processes for c in p.net_connections("inet") if c.status == "LISTEN"
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_when_its_parent_goes_it_gives_back_its_run_and_leaves_no_process(
    shared: Store, runner: subprocess.Popen[bytes]
) -> None:
    run = queue(shared, LONG)
    wait(shared, run, training)
    workers = workers_of(runner)
    assert workers
    assert runner.stdin is not None
    runner.stdin.close()  # as the kernel does when the parent is killed
    assert runner.wait(timeout=20) == 0
    assert shared.runs.get(run.id).run.state is State.QUEUED
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    shared.runs.delete(run.id)


def test_a_killed_runner_leaves_no_process_and_the_next_ones_take_up_its_run(
    store: Store,
) -> None:
    first = start_runner(store)
    try:
        run = queue(store, LONG)
        wait(store, run, training)
        workers = workers_of(first)
        first.kill()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert workers
        assert not alive
        assert store.runs.get(run.id).run.state is State.RUNNING
    finally:
        finish(first)
    with sa.create_engine(store.url).begin() as connection:  # it has been silent for long
        connection.execute(jobs.update().values(heartbeat=0.0))
    second = start_runner(store)
    try:
        entry = wait(store, run, lambda e: e.attempts == 2 and training(e))
        assert entry.run.state is State.RUNNING
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=20) == 0
        # it was not the run's own worker that died: the next one goes on with it
        assert store.runs.get(run.id).run.state is State.QUEUED
    finally:
        finish(second)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--store", "nothing"], "store: got 'nothing'"),
        (["--memory-limit", "5MB"], "memory-limit: got '5MB'"),
    ],
)
def test_bad_settings_are_said_in_one_line(arguments: list[str], reason: str) -> None:
    command = [sys.executable, "-m", "compression.jobs", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


# Ways to die, in real worker processes, quickly: these run in the worker in place of the engine


def finish_at_once(store_url: str, job: Job) -> None:
    store = open_store(store_url)
    store.jobs.report(job, Progress(stage=f"{os.getpid()}", fraction=1.0))
    store.runs.finish(job, store.runs.get(job.run_id).run)


def eat_memory(store_url: str, job: Job) -> None:
    kept = []
    while True:
        kept.append(b"x" * 20_000_000)
        time.sleep(0.05)


def crash(store_url: str, job: Job) -> None:
    ctypes.string_at(0)


def hear_nothing(store_url: str, job: Job) -> None:
    time.sleep(600)


def lose_the_store(store_url: str, job: Job) -> None:
    raise OSError("disk on fire")


def _try(store: Store, job: Job) -> int:
    """How often this run has been started, this time included."""
    tries = int((store.facts.get("tries", job.run_id) or {"n": 0})["n"]) + 1
    store.facts.put("tries", job.run_id, {"n": tries})
    return tries


def crash_after_each_of_two_checkpoints(store_url: str, job: Job) -> None:
    store = open_store(store_url)
    if _try(store, job) <= 2:
        store.jobs.saved(job)
        ctypes.string_at(0)
    store.runs.finish(job, store.runs.get(job.run_id).run)


def crash_where_the_checkpoint_is(store_url: str, job: Job) -> None:
    store = open_store(store_url)
    if _try(store, job) == 1:
        store.jobs.saved(job)
    ctypes.string_at(0)


def save_and_eat_memory(store_url: str, job: Job) -> None:
    store = open_store(store_url)
    _try(store, job)
    store.jobs.saved(job)
    eat_memory(store_url, job)


def keep_what_there_is(store_url: str, job: Job) -> None:
    store = open_store(store_url)
    _try(store, job)
    while not store.jobs.report(job, Progress(stage="s", fraction=0.5)):
        time.sleep(0.05)
    time.sleep(0.8)  # the runner has seen the request by now
    store.jobs.kept(job)
    time.sleep(2.0)
    run = store.runs.get(job.run_id).run
    store.runs.finish(job, run.model_copy(update={"stopped_early": True}))


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with start_cluster(2, 500_000_000, warm=__name__) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def deaths() -> Deaths:
    return Deaths()


@pytest.fixture
def quick(store: Store, client: Client, deaths: Deaths) -> Runner:
    return Runner(store, client, finish_at_once, deaths)


def tick_until_ended(runner: Runner, run: Run) -> StoredRun:
    until = time.monotonic() + 60
    while not ended(entry := runner.store.runs.get(run.id)):
        assert time.monotonic() < until, f"still {entry}"
        runner.tick()
        time.sleep(0.05)
    return entry


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (eat_memory, "Out of memory: the worker reached"),
        (crash, "killed by signal 11 SIGSEGV"),
        (lose_the_store, "disk on fire"),
    ],
)
def test_a_run_that_ends_badly_says_why_and_the_next_one_works(
    quick: Runner, work: runner_module.Work, reason: str
) -> None:
    quick.work = work
    entry = tick_until_ended(quick, queue(quick.store, SHORT))
    assert entry.run.state is State.FAILED
    assert reason in entry.run.notes[-1]
    if work is eat_memory:
        assert "its limit is 0.50 GB" in entry.run.notes[-1]
    quick.work = finish_at_once
    assert tick_until_ended(quick, queue(quick.store, SHORT)).run.state is State.DONE


def test_a_run_that_does_not_answer_is_stopped_the_hard_way(
    quick: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "CANCEL_SECONDS", 1.0)
    quick.work = hear_nothing
    run = queue(quick.store, SHORT)
    quick.tick()
    assert quick.store.runs.get(run.id).run.state is State.RUNNING
    quick.store.jobs.cancel(run.id)
    assert tick_until_ended(quick, run).run.state is State.CANCELLED
    quick.work = finish_at_once
    assert tick_until_ended(quick, queue(quick.store, SHORT)).run.state is State.DONE


@pytest.mark.parametrize(
    ("work", "tries", "reason"),
    [
        (crash_after_each_of_two_checkpoints, 3, None),
        (crash_where_the_checkpoint_is, 2, "killed by signal 11 SIGSEGV"),
        (save_and_eat_memory, 1, "Out of memory"),
    ],
)
def test_a_killed_run_goes_on_from_its_checkpoint_while_that_gets_it_further(
    quick: Runner, work: runner_module.Work, tries: int, reason: str | None
) -> None:
    quick.work = work
    run = queue(quick.store, SHORT)
    entry = tick_until_ended(quick, run)
    assert quick.store.facts.get("tries", run.id) == {"n": tries}
    assert entry.run.state is (State.FAILED if reason else State.DONE)
    assert not reason or reason in entry.run.notes[-1]


def test_a_cancelled_training_that_keeps_what_there_is_is_not_stopped_the_hard_way(
    quick: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(runner_module, "CANCEL_SECONDS", 1.5)
    quick.work = keep_what_there_is
    run = queue(quick.store, SHORT)
    quick.tick()
    wait(quick.store, run, lambda e: e.progress is not None)
    quick.store.jobs.cancel(run.id)
    entry = tick_until_ended(quick, run)
    assert (entry.run.state, entry.run.stopped_early) == (State.DONE, True)
    assert quick.store.facts.get("tries", run.id) == {"n": 1}


@pytest.mark.parametrize("how", ["delete", "remove"])
def test_a_run_taken_away_while_it_runs_harms_nothing(quick: Runner, how: str) -> None:
    quick.work = crash
    run = queue(quick.store, SHORT)
    quick.tick()
    getattr(quick.store.runs, how)(run.id)
    quick.work = finish_at_once
    assert tick_until_ended(quick, queue(quick.store, SHORT)).run.state is State.DONE
    if how == "remove":
        quick.store.runs.restore(run.id)
        entry = quick.store.runs.get(run.id)
        assert (entry.run.state, entry.run.notes) == (State.CANCELLED, ())


def test_a_latency_is_measured_again_once_no_run_is_under_way(quick: Runner) -> None:
    store = quick.store
    run = new_run(MODEL.id, MODEL.dataset, SHORT, State.DONE)
    store.runs.add(run)
    store.runs.request(run.id, Kind.REMEASURE)
    waiting = queue(store, SHORT)
    until = time.monotonic() + 60
    while (job := store.jobs.get(run.id, Kind.REMEASURE)) and job.state in ACTIVE:
        if job.state is State.RUNNING:
            assert store.runs.get(waiting.id).run.state is State.DONE
        assert time.monotonic() < until
        quick.tick()
        time.sleep(0.02)
    assert job is not None and job.state is State.DONE


def test_two_runners_on_one_store_do_each_run_once(
    quick: Runner, client: Client, store: Store
) -> None:
    stop = threading.Event()
    other = Runner(open_store(store.url), client, finish_at_once)
    threads = [threading.Thread(target=runner_module.serve, args=(r, stop)) for r in (quick, other)]
    for thread in threads:
        thread.start()
    runs = [queue(store, SHORT) for _ in range(20)]
    for run in runs:
        wait(store, run, ended)
    stop.set()
    for thread in threads:
        thread.join()
    entries = store.runs.find()
    assert {e.run.state for e in entries} == {State.DONE}
    assert {e.attempts for e in entries} == {1}
    assert {e.runner for e in entries} <= {quick.owner, other.owner}


def test_memory_limits_are_read_as_people_write_them(tmp_path: Path) -> None:
    assert parse_memory("6GB") == 6_000_000_000
    assert parse_memory("1500 MB") == 1_500_000_000
    for wrong in ("999MB", "much"):
        with pytest.raises(InvalidInput, match=rf"got '{wrong}', allowed: 1\.00 GB or more"):
            parse_memory(wrong)
