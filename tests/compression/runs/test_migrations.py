"""A store of a version before is brought up to date when it is opened, and loses nothing.

`store_versions.md` says how the stores were made; they hold the same runs.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from compression.errors import StoreError
from compression.recipe.short_name import short_name
from compression.runs import migrations
from compression.runs.migrations import SCHEMA_VERSION
from compression.runs.results import Run, State
from compression.runs.store import Kind, Store, open_store
from tests.compression.runs.test_names import ask

BEFORE = Path(__file__).with_name("store_version_1.sqlite")
VERSIONS = {1: BEFORE, 2: BEFORE.with_name("store_version_2.sqlite")}
DONE = "c674197d5d8a"
NOBODY = 65534


@pytest.fixture(params=VERSIONS, ids="version {}".format)
def version(request: pytest.FixtureRequest) -> int:
    chosen: int = request.param
    return chosen


@pytest.fixture
def path(version: int, tmp_path: Path) -> Path:
    return Path(shutil.copy(VERSIONS[version], tmp_path / "runs.sqlite"))


@pytest.fixture
def old(path: Path) -> Store:
    return open_store(f"sqlite:///{path}")


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as connection:
        return connection.execute(query).fetchall()


def test_every_run_is_there_as_it_was(old: Store) -> None:
    columns = "id, body, device, created"
    before = {
        run_id: (Run.model_validate_json(body), device, created)
        for run_id, body, device, created in rows(BEFORE, f"select {columns} from runs")
    }
    after = old.runs.find()
    assert {e.run.id: (e.run, e.device, e.created) for e in after} == before
    states = {e.run.id: e.run.state for e in after}
    assert states["ffffffffffff"] is State.FAILED and states["cccccccccccc"] is State.CANCELLED
    failed = old.runs.get("ffffffffffff")
    assert failed.run.notes == ("It broke.",) and failed.traceback == "Traceback: here"
    assert old.runs.get("eeeeeeeeeeee").run.stopped_early
    assert [e.created for e in after] == sorted(e.created for e in after)


def test_nobody_has_said_anything_of_a_run_yet_and_now_can(old: Store) -> None:
    for entry in old.runs.find():
        said = (entry.name, entry.owner, entry.pinned, entry.hidden, entry.removed)
        assert said == ("", "", False, False, None)
        assert entry.title == short_name(entry.run.recipe)
    old.runs.rename(DONE, "The best so far")
    old.runs.remove("a" * 12)
    again = open_store(old.url)
    assert again.runs.get(DONE).title == "The best so far"
    assert len(again.runs.find()) == 11 and len(again.runs.find(removed=True)) == 1


def test_what_was_kept_of_a_run_is_there(old: Store) -> None:
    run = old.runs.get(DONE).run
    packed = old.files.get(DONE)
    assert packed is not None and run.compressed is not None
    assert packed == rows(BEFORE, "select body from files")[0][0]
    assert len(packed) == run.compressed.artifact_bytes
    (curve,) = old.curves.get(DONE)
    assert curve.at == 2 and curve.points[-1].top1 is not None
    certificate = old.certificates.get(DONE)
    assert certificate is not None and certificate.environment["split"] == "test"
    report = old.latency.get(DONE)
    assert report is not None and report.layers and len(report.timings) == 2
    assert old.facts.get("weights", "imagenet/alexnet") == {"quantiles": [0.0, 1.0]}
    assert old.facts.get("store", "examples") == {"names": []}
    ((digest,),) = rows(BEFORE, "select name from facts where kind = 'exported'")
    assert old.facts.get("exported", str(digest)) is not None


def test_runs_that_were_under_way_go_on_where_they_were(old: Store) -> None:
    trained, cut, cancelled = (old.jobs.get(c * 12) for c in "abd")
    assert trained is not None and cut is not None and cancelled is not None
    assert trained.state == cut.state == cancelled.state == State.RUNNING
    assert (trained.saved, trained.cut_short, trained.cancelling) == (True, False, False)
    assert trained.progress is not None and trained.progress.keeps
    assert (cut.saved, cut.cut_short, cut.cancelling) == (False, True, False)
    assert cancelled.cancelling
    old.jobs.recover(silent_seconds=15)  # nobody is alive who has them
    assert old.runs.get("d" * 12).run.state is State.CANCELLED
    claimed = []
    while job := old.jobs.claim("new"):
        claimed.append((job.run_id[0], job.attempts, job.saved, job.cut_short))
        assert old.runs.finish(job, old.runs.get(job.run_id).run)
    assert claimed == [
        ("a", 2, True, False),
        ("b", 2, False, True),
        ("1", 1, False, False),
        ("2", 1, False, False),
    ]
    assert {e.run.state for e in old.runs.find()} == {State.DONE, State.FAILED, State.CANCELLED}


def test_requests_for_latency_reports_go_on(old: Store) -> None:
    failed, running, queued = (old.jobs.get(c * 12, Kind.LATENCY) for c in "345")
    assert failed is not None and running is not None and queued is not None
    assert (failed.state, failed.message) == (State.FAILED, "The worker ran out of memory.")
    assert (running.state, running.owner) == (State.RUNNING, "host:1:dead")
    assert queued.state is State.QUEUED
    assert old.runs.get("3" * 12).run.state is State.DONE
    old.jobs.recover(silent_seconds=15)
    claimed = []
    while job := old.jobs.claim("new", Kind.LATENCY):
        claimed.append(job.run_id[0])
        report = old.latency.get(DONE)
        assert report is not None and old.latency.finish(job, report)
    assert claimed == ["4", "5"]
    assert old.latency.get("4" * 12) == old.latency.get(DONE)


def test_it_happens_once_and_nothing_of_the_old_tables_is_left(old: Store, path: Path) -> None:
    tables = [str(row[0]) for row in rows(path, "select name from sqlite_master order by name")]
    assert [t for t in tables if "autoindex" not in t] == [
        *("facts", "files", "ix_jobs_state", "ix_runs_model", "ix_runs_recipe_key"),
        *("ix_runs_removed", "jobs", "runs"),
    ]
    assert old.facts.get("store", "schema") == {"version": SCHEMA_VERSION}
    kinds = {row[0] for row in rows(path, "select kind from facts")}
    assert kinds == {"store", "curve", "certificate", "latency", "exported", "weights"}
    before = rows(path, "select * from jobs"), rows(path, "select * from runs")
    open_store(old.url)
    assert (rows(path, "select * from jobs"), rows(path, "select * from runs")) == before


@pytest.mark.parametrize("step", [1, 2])
def test_one_that_breaks_off_leaves_the_store_as_it_was(
    step: int, path: Path, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if step < version:
        pytest.skip("this store is beyond that step")
    before = rows(path, "select * from sqlite_master"), rows(path, "select * from facts")
    whole = migrations._STEPS[step]

    def break_off(connection: sa.Connection) -> None:
        whole(connection)
        raise StoreError("store: the power is gone")

    with monkeypatch.context() as patched:
        patched.setitem(migrations._STEPS, step, break_off)
        with pytest.raises(StoreError, match="power"):
            open_store(f"sqlite:///{path}")
    assert (rows(path, "select * from sqlite_master"), rows(path, "select * from facts")) == before
    assert len(open_store(f"sqlite:///{path}").runs.find()) == 12


def count_runs(url: str) -> int:
    return len(open_store(url).runs.find())


@pytest.mark.slow
def test_many_processes_may_open_it_at_once(path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        counts = pool.map(count_runs, [f"sqlite:///{path}"] * 6, chunksize=1)
    assert counts == [12] * 6


def test_a_store_newer_than_this_program_is_refused_in_one_sentence(path: Path) -> None:
    url = f"sqlite:///{path}"
    open_store(url).facts.put("store", "schema", {"version": SCHEMA_VERSION + 1})
    with pytest.raises(StoreError) as caught:
        open_store(url)
    line = f"store: '{url}' was written by a newer version of this program; update the program to "
    assert str(caught.value) == line + "open it"


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"version": "two"}', '{"version": null}'])
def test_a_store_that_does_not_say_its_version_is_refused(path: Path, text: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("update facts set body = ? where kind = 'store'", (text,))
    with pytest.raises(StoreError, match=r"^store: .*") as caught:
        open_store(f"sqlite:///{path}")
    assert "\n" not in str(caught.value)


# On PostgreSQL


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty database, of a server that this test has to itself."""
    if not shutil.which("initdb") or not shutil.which("pg_ctl"):
        pytest.skip("needs PostgreSQL's initdb and pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the name of a socket has its limits
    user = {"user": NOBODY} if os.geteuid() == 0 else {}  # it does not run as root
    if user:
        os.chown(folder, NOBODY, NOBODY)

    def call(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **user)

    call("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "tester")
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    call("pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
    yield f"postgresql+psycopg://tester@/postgres?host={folder}"
    call("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def copy_to(url: str, version: int) -> None:
    """The store of an earlier version, in another database."""
    tables = sa.MetaData()
    source, target = sa.create_engine(f"sqlite:///{VERSIONS[version]}"), sa.create_engine(url)
    tables.reflect(source)
    for column in (c for t in tables.tables.values() for c in t.columns):
        column.type = column.type.as_generic()
    tables.create_all(target)
    with source.connect() as old, target.begin() as new:
        for table in tables.tables.values():
            new.execute(table.insert(), [dict(r._mapping) for r in old.execute(table.select())])


@pytest.mark.slow
def test_postgresql_is_brought_up_to_date_too(postgres: str, old: Store, version: int) -> None:
    copy_to(postgres, version)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(count_runs, [postgres] * 6, chunksize=1) == [12] * 6
    store = open_store(postgres)
    assert store.runs.find() == old.runs.find()
    for kind in Kind:
        ids = [e.run.id for e in old.runs.find()]
        assert [store.jobs.get(i, kind) for i in ids] == [old.jobs.get(i, kind) for i in ids]
    assert store.files.get(DONE) == old.files.get(DONE)
    assert store.curves.get(DONE) == old.curves.get(DONE)
    assert store.certificates.get(DONE) == old.certificates.get(DONE)
    assert store.latency.get(DONE) == old.latency.get(DONE)
    store.jobs.recover(silent_seconds=15)
    claimed = []
    while job := store.jobs.claim("new"):
        claimed.append(job.run_id[0])
        assert store.runs.finish(job, store.runs.get(job.run_id).run)
    assert claimed == ["a", "b", "1", "2"]
    assert len(open_store(postgres).runs.find()) == 12
    store.runs.rename(DONE, "The best so far")
    store.runs.pin(DONE, True)
    store.runs.remove(DONE)
    assert len(store.runs.find()) == 11
    store.runs.restore(DONE)
    assert (store.runs.get(DONE).title, store.runs.get(DONE).pinned) == ("The best so far", True)
    store.runs.remove("f" * 12)
    store.runs.delete_removed(time.time() + 1)
    assert len(store.runs.find()) == 11 and store.runs.find(removed=True) == []


@pytest.mark.slow
def test_on_postgresql_too_what_many_ask_for_at_once_is_computed_once(postgres: str) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        asked = pool.starmap(ask, [(postgres, f"person {i}") for i in range(16)], chunksize=1)
    (entry,) = open_store(postgres).runs.find()
    assert set(asked) == {entry.run.id}
