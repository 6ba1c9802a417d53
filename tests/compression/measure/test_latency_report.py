"""The latency report: what is in it, where it is kept, who makes it, and what is refused."""

# mypy: allow-untyped-calls

from __future__ import annotations

import io
import json
import os
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from distributed import Client
from rich.console import Console

from compression.catalogue.cards import cards
from compression.cli.main import main
from compression.cli.tables import latency as latency_tables
from compression.errors import InvalidInput
from compression.jobs import worker
from compression.jobs.dask_cluster import start_cluster
from compression.jobs.runner import Runner
from compression.measure import interleaved_timer, latency_report
from compression.measure.backend_timing import threads_available
from compression.measure.latency_report import plan, report
from compression.methods.pipeline import compress
from compression.models.load import original_of
from compression.models.target import target_of
from compression.paths import TIMING_VARIABLE
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Prune, Quantize
from compression.runs.format import BUSY, busy_note
from compression.runs.progress import Progress
from compression.runs.results import ACTIVE, Latency, LatencyReport, Run, State, Timing
from compression.runs.statistics import Ratio
from compression.runs.store import Job, Kind, Store, new_run, open_store

MODEL = min((c for c in cards().values() if c.bundled), key=lambda c: c.parameters)
RECIPE = Recipe(steps=(Prune(sparsity=0.5), Quantize(bits=8)))


def finished(store: Store, **more: Any) -> Run:
    run = new_run(MODEL.id, MODEL.dataset, RECIPE, State.DONE).model_copy(update=more)
    store.runs.add(run, "cpu")
    return run


def example() -> LatencyReport:
    one = Ratio(value=1.0, low=0.9, high=1.1)
    timed = Latency(backend="b", threads=1, batch=1, p50_ms=1, p90_ms=2, p99_ms=3)
    timing = Timing(
        backend="onnx",
        original_backend="onnx",
        baseline=timed,
        compressed=timed,
        ratio=one,
        control=one,
    )
    return LatencyReport(timings=(timing,), notes=("said",))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMING_VARIABLE, "0.05")
    monkeypatch.setattr(interleaved_timer, "LEAST_CALLS", 10)


# The report


@pytest.mark.slow
def test_a_report_has_backends_batches_layers_and_roofs(short: None, store: Store) -> None:
    run = finished(store)
    told: list[str] = []
    model = compress(MODEL.id, RECIPE, device="cpu").model
    wanted = plan(True, backends=["eager", "onnx", "onnx-int8"], batches=[1, 3], threads=[1])
    target = target_of(MODEL.id, RECIPE, device="cpu")
    found = report(run, target, model, wanted, tell=lambda stage, _: told.append(stage))
    assert [t.backend for t in found.timings] == ["eager", "onnx", "onnx-int8"]
    assert [a.backend for a in found.accounts] == ["eager", "onnx", "onnx-int8"]
    cells = [(t.backend, t.compressed.batch, t.compressed.threads) for t in found.sweep]
    names = ("eager", "onnx", "onnx-int8")
    assert sorted(cells) == sorted((name, batch, 1) for name in names for batch in (1, 3))
    assert found.layers_backend == "onnx-int8"
    counted = [layer for layer in found.layers if layer.original_macs]
    assert sum(layer.original_macs or 0 for layer in counted) == MODEL.macs
    assert all(layer.original_ms is not None for layer in counted)
    assert {(r.numbers, r.threads) for r in found.roofs} == {("float32", 1), ("int8", 1)}
    assert list(dict.fromkeys(told)) == [
        "Timing backends",
        "Timing batches and threads",
        "Timing layers",
    ]
    store.latency.put(run.id, found)
    assert store.latency.get(run.id) == found
    assert next(original_of(MODEL.id).parameters()).device.type == "cpu"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"backends": ["tpu"]}, "backends: got 'tpu', allowed: eager, compile, onnx"),
        ({"backends": ["float16"]}, r"backends: got 'float16', allowed: .*is not for cpu"),
        ({"batches": [1, 0]}, "batches: got 0, allowed: whole numbers from 1 to 256"),
        ({"batches": [257]}, "batches: got 257"),
        ({"threads": [threads_available() + 1]}, "threads: got"),
    ],
)
def test_what_cannot_be_timed_is_refused_by_name(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        plan(True, **asked)


def test_what_is_not_asked_for_is_all_that_makes_sense() -> None:
    whole = plan(False)
    assert "onnx" in whole.backends and not any("int8" in name for name in whole.backends)
    assert whole.swept == ("onnx",) and whole.batches == (1, 8) and whole.threads[0] == 1
    assert plan(True).swept == ("onnx", "onnx-int8")
    assert plan(False, backends=["onnx-int8", "compile"]).swept == ("onnx-int8",)


def test_what_was_timed_on_a_busy_machine_is_marked_in_every_table() -> None:
    (quiet,) = example().timings
    latency = quiet.compressed.model_copy(update={"on_busy_machine": True})
    busy = quiet.model_copy(update={"compressed": latency})
    for timings, marked in (((quiet, busy), 1), ((quiet,), 0)):
        console = Console(width=200, file=io.StringIO())
        for table in latency_tables.of(LatencyReport(timings=timings, sweep=timings)).values():
            console.print(table)
        assert console.file.getvalue().count(BUSY) == 2 * marked  # type: ignore[attr-defined]
        assert latency_report._busy(timings) == (busy_note(),) * marked


# The request for one


def test_a_report_goes_with_its_run(store: Store) -> None:
    run = finished(store)
    assert store.latency.get(run.id) is None
    store.latency.put(run.id, example())
    assert store.latency.get(run.id) == example()
    store.latency.request(run.id)
    store.runs.delete(run.id)
    assert store.latency.get(run.id) is None and store.jobs.get(run.id, Kind.LATENCY) is None
    store.latency.put(run.id, example())  # a worker that has not heard of it
    assert store.latency.get(run.id) is None


def claim(store: Store, owner: str) -> Job:
    job = store.jobs.claim(owner, Kind.LATENCY)
    assert job is not None
    return job


def requested(store: Store, run: Run) -> Job:
    job = store.jobs.get(run.id, Kind.LATENCY)
    assert job is not None
    return job


HALF = Progress(stage="Timing layers", fraction=0.5)


def test_a_request_is_claimed_once_reported_on_and_ends_with_the_report(store: Store) -> None:
    first, second = finished(store), finished(store)
    store.latency.request(first.id)
    store.latency.request(second.id)
    store.latency.request(first.id)  # it keeps its place
    job = claim(store, "one")
    assert job.run_id == first.id
    assert claim(store, "two").run_id == second.id
    assert store.jobs.claim("one", Kind.LATENCY) is None
    assert store.jobs.claim("one") is None  # there is no run to be done
    other = replace(job, owner="two")
    assert not store.jobs.report(job, HALF)
    assert store.jobs.report(other, HALF)  # not its own: it has to stop
    assert (requested(store, first).state, requested(store, first).progress) == ("running", HALF)
    store.jobs.beat("one")  # still at it
    assert requested(store, first).progress == HALF
    assert not store.latency.finish(other, example())
    assert store.latency.get(first.id) is None
    assert store.latency.finish(job, example())
    assert store.latency.get(first.id) == example()
    assert requested(store, first).state is State.DONE
    store.latency.request(first.id)  # once more
    assert requested(store, first).state is State.QUEUED


def test_a_request_that_fails_says_why_and_may_be_made_again(store: Store) -> None:
    run = finished(store)
    store.latency.request(run.id)
    job = claim(store, "one")
    store.latency.request(run.id)  # under way already
    assert store.jobs.claim("two", Kind.LATENCY) is None
    store.jobs.fail(job, "No way.")
    assert (requested(store, run).state, requested(store, run).message) == ("failed", "No way.")
    assert store.runs.get(run.id).run == run  # which did not fail
    store.latency.request(run.id)
    assert claim(store, "two").run_id == run.id
    store.jobs.release("one")
    assert store.jobs.claim("one", Kind.LATENCY) is None
    store.jobs.release("two")
    job = claim(store, "one")
    store.jobs.recover(60)
    assert not store.jobs.report(job, HALF)
    store.jobs.recover(-1)
    assert store.jobs.report(job, HALF)
    assert claim(store, "two").run_id == run.id  # the next one makes it


def test_what_cannot_be_made_again_cannot_be_requested(store: Store) -> None:
    stopped = finished(store, stopped_early=True)
    with pytest.raises(InvalidInput, match="stopped early"):
        store.latency.request(stopped.id)
    store.files.put(stopped.id, b"kept")
    store.latency.request(stopped.id)
    queued = new_run(MODEL.id, MODEL.dataset, RECIPE)
    store.runs.add(queued)
    with pytest.raises(InvalidInput, match="a run that is done; this one is queued"):
        store.latency.request(queued.id)
    with pytest.raises(InvalidInput, match="run: got 'nothing'"):
        store.latency.request("nothing")


# In a real worker process, with less effort: this runs there in place of what a runner has done


def do_shortly(store_url: str, job: Job) -> None:
    if job.kind is Kind.RUN:
        time.sleep(1.0)
        store = open_store(store_url)
        store.runs.finish(job, store.runs.get(job.run_id).run)
        return
    os.environ[TIMING_VARIABLE], worker.CURVE_SECONDS = "0.05", 0.0
    worker.plan = partial(plan, backends=["onnx"], batches=[1, 2])  # type: ignore[attr-defined]
    worker.work(store_url, job)


@pytest.mark.slow
def test_a_runner_makes_reports_when_no_run_is_under_way(store: Store) -> None:
    done, gone = finished(store), finished(store, model="no/such")
    for run in (done, gone):
        store.latency.request(run.id)
    waiting = new_run(MODEL.id, MODEL.dataset, RECIPE)
    store.runs.add(waiting, "cpu")
    stages: dict[str, set[str]] = {done.id: set(), gone.id: set()}
    with start_cluster(1, 3_000_000_000, warm=__name__) as cluster, Client(cluster) as client:
        runner = Runner(store, client, do_shortly)
        until = time.monotonic() + 150
        while any(requested(store, run).state in ACTIVE for run in (done, gone)):
            assert time.monotonic() < until
            runner.tick()
            for run_id, seen in stages.items():
                job = store.jobs.get(run_id, Kind.LATENCY)
                if job is not None and job.state is State.RUNNING:
                    assert store.runs.get(waiting.id).run.state is State.DONE
                    seen.add(job.progress.stage if job.progress else "")
            time.sleep(0.02)
    assert {"Timing batches and threads", "Timing layers"} & stages[done.id]
    kept = store.latency.get(done.id)
    assert kept is not None and {t.compressed.batch for t in kept.sweep} == {1, 2}
    assert any("recipe was applied again" in note for note in kept.notes)
    assert requested(store, gone).state is State.FAILED
    assert "no/such" in requested(store, gone).message
    assert store.latency.get(gone.id) is None


# The command


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert caught.value.code == code, err
    return out, err


@pytest.mark.slow
def test_the_command_prints_tables_or_json_and_keeps_the_report(
    short: None, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(store)
    few = ("--backends", "onnx,onnx-int8", "--batches", "2", "--threads", "1", "--store", store.url)
    out, _ = said(capsys, "latency", run.id[:6], *few)
    kept = store.latency.get(run.id)
    assert kept is not None and {t.compressed.batch for t in kept.timings} == {2}
    for title in ("Backends, batch 2, 1 thread", "Layers in onnx-int8", "MACs a second", "control"):
        assert title in out
    assert all(reason in out for account in kept.accounts for reason in account.reasons)
    out, _ = said(capsys, "latency", run.id, "--backends", "onnx-int8", *few[2:], "--json")
    assert LatencyReport.model_validate_json(out) == store.latency.get(run.id) != kept
    assert json.loads(out)["layers_backend"] == "onnx-int8"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--batches", "one"], "batches: got 'one', allowed: whole numbers"),
        (["--batches", ""], "batches: got ''"),
        (["--threads", "0"], "threads: got 0, allowed: whole numbers from 1"),
        (["--backends", "abacus"], "backends: got 'abacus', allowed: eager"),
    ],
)
def test_bad_flags_are_said_in_one_line(
    store: Store, capsys: pytest.CaptureFixture[str], flags: list[str], line: str
) -> None:
    run = finished(store)
    _, err = said(capsys, "latency", run.id, *flags, "--store", store.url, code=2)
    assert err.startswith(line) and len(err.splitlines()) == 1
    _, err = said(capsys, "latency", "none", "--store", store.url, code=2)
    assert err.startswith("run: got 'none'") and len(err.splitlines()) == 1
