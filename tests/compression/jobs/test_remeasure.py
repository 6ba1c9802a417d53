"""The latency of a run is measured again: that changes, and nothing else does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compression.catalogue.examples import examples
from compression.cli.tables import runs as tables
from compression.errors import InvalidInput
from compression.jobs import worker
from compression.measure import cpu_pinning
from compression.measure.cpu_pinning import MachineLoad
from compression.runs.format import BUSY, busy_note
from compression.runs.progress import Progress
from compression.runs.results import Latency, Measurement, Run, State
from compression.runs.store import Kind, Store, new_run
from tests.compression.cli.calls import call_here, output_of

LATENCY = {"baseline", "compressed", "delta", "environment", "notes", "timings", "accounts"}
NOTE = busy_note()


def disturbed(run: Run) -> Run:
    """A run as if the machine had been busy, of a time that it never took."""
    assert run.baseline and run.compressed and run.compressed.latency
    figures = {"p50_ms": 1e6, "p90_ms": 1e6, "p99_ms": 1e6, "on_busy_machine": True}
    latency = run.compressed.latency.model_copy(update=figures)
    timings = tuple(t.model_copy(update={"compressed": latency}) for t in run.timings)
    return run.model_copy(
        update={
            "baseline": run.baseline.model_copy(update={"latency": latency}),
            "compressed": run.compressed.model_copy(update={"latency": latency}),
            "timings": timings,
            "notes": ("The first.", NOTE, "The last."),
        }
    )


@pytest.fixture
def run(store: Store) -> Run:
    """A stored run with its certificate, both measured while the machine was busy."""
    example = examples()[0]
    assert example.certificate
    store.runs.add(disturbed(example.run), "cpu")
    store.certificates.put(example.run.id, disturbed(example.certificate))
    return store.runs.get(example.run.id).run


def rest(run: Run) -> dict[str, Any]:
    """All of a run that has nothing to do with its latency."""
    kept = run.model_dump(exclude=LATENCY)
    for name in ("baseline", "compressed"):
        figures: Measurement = getattr(run, name)
        kept[name] = figures.model_dump(exclude={"latency"})
    assert run.delta
    names = ("weights", "created", "split", "python", "torch", "artifact_sha256")
    kept["environment"] = {name: run.environment[name] for name in names}
    return {**kept, "delta": run.delta.model_dump(exclude={"latency_ratio"})}


def latency_of(run: Run) -> Latency:
    assert run.compressed and run.compressed.latency
    return run.compressed.latency


@pytest.mark.slow
def test_a_run_measured_again_has_a_new_latency_and_is_else_the_same(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # whatever the machine does meanwhile
    monkeypatch.setattr(cpu_pinning, "LIMITS", MachineLoad(1e9, 1e9, 1e9, 1e9))
    assert NOTE in call_here("show", run.id, "--store", store.url)
    printed = json.loads(call_here("latency", run.id, "--again", "--store", store.url, "--json"))
    again, certificate = store.runs.get(run.id).run, store.certificates.get(run.id)
    assert certificate is not None and printed.items() >= json.loads(again.to_json()).items()
    for before, after in ((run, again), (examples()[0].certificate, certificate)):
        assert before is not None and rest(after) == rest(before)
        timed = latency_of(after)
        assert timed.p50_ms < 1e6 and not timed.on_busy_machine
        assert after.delta and after.delta.latency_ratio == after.timings[0].ratio
        assert after.timings[0].compressed == timed
        assert [a.backend for a in after.accounts] == [t.backend for t in after.timings]
        assert NOTE not in after.notes and {"The first.", "The last."} < {*after.notes}
        assert after.environment["latency_created"] > after.environment["created"]
    out = call_here("show", run.id, "--store", store.url)
    assert NOTE not in out and BUSY not in out

    monkeypatch.setattr(cpu_pinning, "LIMITS", MachineLoad(1e-12, 1e-12, 1e-12, 1e-12))
    call_here("latency", run.id, "--again", "--store", store.url)
    busy = store.runs.get(run.id).run
    assert latency_of(busy).on_busy_machine and busy.notes.count(NOTE) == 1
    assert {*busy.notes} > {"The first.", "The last."} and rest(busy) == rest(run)


def test_every_table_marks_what_was_measured_on_a_busy_machine(
    store: Store, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = output_of(capsys, "show", run.id, "--store", store.url)
    figures = next(line for line in out.splitlines() if "latency, median" in line)
    assert figures.rstrip().endswith(BUSY)
    assert out.count(BUSY) >= 2 + len(run.accounts)  # and the line on how it was measured
    assert BUSY in tables.conditions(run)
    out, _ = output_of(capsys, "runs", "--store", store.url)
    assert BUSY in out
    store.runs.replace(examples()[0].run)
    for command in (("show", run.id), ("runs",)):
        out, _ = output_of(capsys, *command, "--store", store.url)
        assert BUSY not in out and NOTE not in out


def test_it_is_measured_as_the_run_was_and_in_no_other_way(
    store: Store, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ("latency", run.id, "--again", "--store", store.url)
    for flag, value in (("backends", "onnx"), ("batches", "2"), ("threads", "1")):
        _, err = output_of(capsys, *again, f"--{flag}", value, code=2)
        assert err.startswith(f"{flag}: got '{value}', allowed: none with --again")
    queued = new_run(run.model, run.dataset, run.recipe)
    store.runs.add(queued)
    with pytest.raises(InvalidInput, match="a run that is done; this one is queued"):
        store.runs.request(queued.id, Kind.REMEASURE)


def test_a_worker_does_it_and_keeps_run_and_certificate(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = examples()[0].run, examples()[0].certificate
    monkeypatch.setattr(worker, "_prepare", lambda _: store)
    monkeypatch.setattr(worker, "remeasure", lambda *_, **__: new)
    store.runs.request(run.id, Kind.REMEASURE)
    store.runs.request(run.id, Kind.REMEASURE)  # once is enough
    job = store.jobs.claim("one", Kind.REMEASURE)
    assert job is not None and store.jobs.claim("two", Kind.REMEASURE) is None
    assert store.jobs.claim("one") is store.jobs.claim("one", Kind.LATENCY) is None
    worker.work(store.url, job)
    ended = store.jobs.get(run.id, Kind.REMEASURE)
    assert ended is not None and ended.state is State.DONE
    assert (store.runs.get(run.id).run, store.certificates.get(run.id)) == new
    store.runs.delete(run.id)
    assert store.jobs.get(run.id, Kind.REMEASURE) is None
    store.runs.replace(new[0])
    assert store.runs.find() == []  # what was deleted stays so


def test_a_request_to_stop_ends_it_and_changes_nothing(
    store: Store, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_store: Store, _run: Run, *, device: str, report: Any) -> None:
        store.jobs.cancel(run.id, Kind.REMEASURE)
        report(Progress(stage="Measuring latency", fraction=0.5))
        pytest.fail("it went on")

    monkeypatch.setattr(worker, "_prepare", lambda _: store)
    monkeypatch.setattr(worker, "remeasure", stopped)
    store.runs.request(run.id, Kind.REMEASURE)
    job = store.jobs.claim("one", Kind.REMEASURE)
    assert job is not None
    worker.work(store.url, job)
    ended = store.jobs.get(run.id, Kind.REMEASURE)
    assert ended is not None and ended.state is State.CANCELLED
    assert store.runs.get(run.id).run == run
