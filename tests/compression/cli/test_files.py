"""`export` and `evaluate`: what they write and print, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from compression.catalogue.cards import card
from compression.catalogue.examples import examples
from compression.data.datasets import load_dataset
from compression.export.model_card import DATA, Page, card_of
from compression.recipe.recipe import Recipe
from compression.runs.format import busy_note, digits, percent, points, ratio, size
from compression.runs.results import Exported, Run, State
from compression.runs.statistics import Interval
from compression.runs.store import Store, new_run, open_store
from tests.compression.cli.calls import output_of
from tests.compression.exported import (
    MODEL,
    RECIPE,
    finished,
    packed,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one finished run and its file."""
    opened = open_store(f"sqlite:///{tmp_path_factory.mktemp('files') / 'runs.sqlite'}")
    run = finished()
    opened.runs.add(run, "cpu")
    opened.files.put(run.id, packed())
    return opened


@pytest.fixture(scope="module")
def run(store: Store) -> Run:
    return store.runs.find()[0].run


@pytest.mark.slow
def test_a_run_becomes_an_int8_graph_that_its_script_runs_and_evaluate_measures(
    store: Store, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small-int8.onnx"
    arguments = ("--format", "onnx-int8", "-o", str(path), "--store", store.url)
    out, _ = output_of(capsys, "export", run.id[:6], *arguments, "--json")
    written: dict[str, Any] = json.loads(out)
    beside = sorted(p.name for p in tmp_path.iterdir())
    assert beside == ["small-int8.md", "small-int8.onnx", "small-int8.py"]
    assert [written[k] for k in ("path", "card", "script")] == [
        str(path.with_suffix(s)) for s in (".onnx", ".md", ".py")
    ]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (written["run"], written["sha256"]) == (run.id, digest)
    exported = Exported.model_validate({k: written[k] for k in Exported.model_fields})
    assert exported.file_bytes == path.stat().st_size
    page = path.with_suffix(".md").read_text()
    for part in (digest, run.id, RECIPE.sentence(), percent(exported.top1)):
        assert part in page
    for note in exported.notes:
        assert note in page

    images = load_dataset("fashion-mnist").validation.images[:30].squeeze(1).numpy()
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-I", written["script"], str(tmp_path / "images.npy")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    labels = load_dataset("fashion-mnist").validation.labels[:30]
    names = load_dataset("fashion-mnist").classes
    right = sum(a == names[b] for a, b in zip(done.stdout.splitlines(), labels, strict=True))
    assert right >= 20

    out, _ = output_of(capsys, "evaluate", str(path), "--store", store.url, "--json")
    document = json.loads(out)
    assert (document["model"], document["format"]) == (MODEL, "onnx-int8")
    assert document["top1"] == written["top1"]
    assert document["change"]["n"] == document["top1"]["n"] == 5_000
    out, _ = output_of(capsys, "evaluate", str(path), "--store", store.url, "--threads", "2")
    assert f"{percent(Interval(**document['top1']))}" in out
    assert MODEL in out and "2 threads" in out and "p99" in out


@pytest.mark.slow
def test_nothing_is_overwritten_without_asking(
    store: Store, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.safetensors"
    arguments = ("export", run.id, "-o", str(path), "--store", store.url)
    for other in (path, path.with_suffix(".md"), path.with_suffix(".py")):
        other.write_text("mine")
        _, err = output_of(capsys, *arguments, code=2)
        assert f"{other} exists; pass --force to replace it" in err
        assert other.read_text() == "mine"
        assert [*tmp_path.iterdir()] == [other]
        other.unlink()
    path.write_text("mine")
    out, _ = output_of(capsys, *arguments, "--force")
    assert path.read_bytes() == packed()
    assert all(p.name in out for p in tmp_path.iterdir())
    assert "Same label as the measured model: 100 %" in out


def test_what_cannot_be_written_is_said_before_any_work(
    store: Store, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queued = new_run(MODEL, "fashion-mnist", Recipe())
    stopped = finished(stopped_early=True)
    store.runs.add(queued)
    store.runs.add(stopped)
    good = str(tmp_path / "a.onnx")
    cases = {
        (run.id, "-o", good, "--format", "gguf"): "format: got 'gguf', allowed: packed, onnx",
        ("0123", "-o", good): "run: got '0123', allowed: an id listed",
        (queued.id, "-o", good): "a run that is done; this one is queued",
        (stopped.id, "-o", good): "this one was stopped early and its file was not kept",
        (run.id, "-o", str(tmp_path / "no" / "a.onnx")): "no is not a folder; make it first",
        (run.id, "-o", str(tmp_path)): "is a folder; pass the name of a file",
        (run.id, "-o", str(tmp_path / "card.md")): "a name such as model.onnx",
        (run.id, "-o", str(tmp_path / "torch.pt2")): "its script must not hide a module",
    }
    for arguments, line in cases.items():
        out, err = output_of(capsys, "export", *arguments, "--store", store.url, code=2)
        assert line in err
        assert (out, err.count("\n"), [*tmp_path.iterdir()]) == ("", 1, [])


def test_a_program_is_opened_if_it_was_written_here_or_is_trusted(
    store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt2"
    path.write_bytes(b"PK\x03\x04 and then nothing that could be loaded")
    arguments = ("evaluate", str(path), "--store", store.url)
    _, err = output_of(capfd, *arguments, code=2)
    assert "not exported into this store" in err and "--trust" in err
    _, trusted = output_of(capfd, *arguments, "--trust", code=2)
    store.facts.put("exported", hashlib.sha256(path.read_bytes()).hexdigest(), {})
    _, known = output_of(capfd, *arguments, code=2)
    assert trusted == known
    assert "not a program that PyTorch" in known
    assert known.count("\n") == 1


def test_evaluating_says_in_one_line_what_is_wrong(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("a page of text, not a graph")
    for arguments, line in {
        (str(path),): "this is not a file of a model, or it is damaged; known are: packed file",
        (str(tmp_path / "none"),): "there is no such file",
        (str(path), "--split", "train"): "split: got 'train', allowed: validation, test",
        (str(path), "--model", "none"): "model: got 'none', allowed: an id listed",
    }.items():
        out, err = output_of(capsys, "evaluate", *arguments, "--store", store.url, code=2)
        assert line in err
        assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("example", examples(), ids=lambda e: e.name)
def test_a_card_holds_every_figure_of_the_run_with_its_interval(example: Any) -> None:
    done = example.run
    exported = Exported(format="packed", file_bytes=104_065, notes=("A note.",))
    page = Page(
        "a.safetensors", "f" * 64, done, example.certificate, card(done.model), exported, "a.py"
    )
    text = card_of(page)
    assert done.compressed and done.delta and done.compressed.latency and example.certificate
    for part in (
        percent(done.compressed.top1),
        percent(example.certificate.compressed.top1),
        points(done.delta.top1),
        size(104_065),
        ratio(done.baseline.dense_bytes / 104_065),
        digits(done.compressed.latency.p50_ms),
        done.environment["device"],
        done.recipe.sentence(),
        DATA[done.dataset].title,
        card(done.model).licence,
        "A note.",
        "f" * 64,
        "a.py",
    ):
        assert part in text
    assert "have not been looked at" not in text
    assert "have not been looked at" in card_of(
        Page("a", "f" * 64, done, None, card(done.model), exported, "a.py")
    )
    assert len(text.split()) < 600  # a page
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == card(done.model).licence.lower() == "mit"
    assert front["library_name"] == "compression-dashboard"
    (index,) = front["model-index"]
    assert index["name"] in text.partition("# ")[2]
    assert [r["metrics"][0]["value"] for r in index["results"]] == [
        done.compressed.top1.value,
        example.certificate.compressed.top1.value,
    ]
    assert [r["dataset"]["split"] for r in index["results"]] == ["validation", "test"]
    assert busy_note() not in text
    latency = done.compressed.latency.model_copy(update={"on_busy_machine": True})
    timings = tuple(t.model_copy(update={"compressed": latency}) for t in done.timings)
    compressed = done.compressed.model_copy(update={"latency": latency})
    for changed in ({"timings": timings}, {"timings": (), "compressed": compressed}):
        disturbed = done.model_copy(update=changed)
        assert f"**{busy_note()}**" in card_of(
            Page("a", "f" * 64, disturbed, None, card(done.model), exported, "a.py")
        )
    bare = new_run(done.model, done.dataset, done.recipe, State.DONE)
    assert "Latency was not measured" in card_of(
        Page("a", "f" * 64, bare, None, card(done.model), exported, "a.py")
    )
