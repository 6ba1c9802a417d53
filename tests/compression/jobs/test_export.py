"""A run as a file of another kind: the files answer as the measured model does, and say of what
they are."""

from __future__ import annotations

import hashlib
import io
import json
import runpy
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compression.catalogue.cards import card
from compression.catalogue.examples import examples
from compression.catalogue.file_formats import FORMATS
from compression.data.datasets import FASHION_MNIST, load_dataset
from compression.errors import InvalidInput, NotExportable
from compression.export.handlers import HANDLERS
from compression.export.inference_script import Runner, script_of
from compression.export.packed.file import details
from compression.jobs.export import make
from compression.jobs.packed_source import source_of
from compression.measure.evaluate_file import evaluate
from compression.models.target import target_of
from compression.runs.results import State
from compression.runs.store import Store
from tests.compression.exported import (
    MODEL,
    RECIPE,
    finished,
    measured,
    opened,
    packed,
    ready,
    source,
)


def test_every_format_of_the_catalogue_has_a_handler() -> None:
    assert list(FORMATS) == list(HANDLERS)
    assert all(name == entry.id for name, entry in FORMATS.items())


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_every_file_answers_as_the_measured_model(form: str) -> None:
    exported = ready(form).exported
    n = len(measured().labels)
    right = int(measured().right.sum())
    assert exported.format == form
    assert exported.file_bytes == len(ready(form).data)
    assert ready(form).batch is None
    assert exported.top1 is not None and exported.difference is not None
    assert exported.agreement is not None
    assert exported.top1.n == n
    if form in ("packed", "pt2"):
        assert exported.difference < 1e-6
        # sums in another order can put an input on the next value of its grid
        assert abs(exported.top1.value * n - right) <= (0 if form == "packed" else 5)
    else:
        assert exported.difference < (1e-5 if form == "onnx" else 0.2)
        assert exported.agreement > 0.97
    about = " ".join(exported.notes)
    assert ("int8 kernels" in about) == (form == "onnx-int8")
    assert ("not quantized" in about) == (form == "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx-int8", "pt2"])
def test_a_file_is_measured_again_as_it_was_when_it_was_made(form: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(ready(form).data)
    evaluation = evaluate(path, trusted=form == "pt2")
    assert (evaluation.format, evaluation.model, evaluation.file_bytes) == (
        form,
        MODEL,
        path.stat().st_size,
    )
    assert evaluation.top1 == ready(form).exported.top1
    timed = evaluation.latency
    assert timed is not None and (timed.batch, timed.threads) == (1, 1)
    assert 0 < timed.p50_ms <= timed.p90_ms <= timed.p99_ms
    assert ("int8" in timed.backend) == (form == "onnx-int8")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_the_script_gives_the_labels_that_the_file_gives(
    form: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, script = tmp_path / "it's 1.model", tmp_path / "it's 1.py"
    file.write_bytes(ready(form).data)
    script.write_text(script_of(Runner(file.name, form, card(MODEL))))
    assert len(script.read_text().splitlines()) <= 20
    data = load_dataset("fashion-mnist")
    images = data.validation.images[:60]
    np.save(tmp_path / "images.npy", images.squeeze(1).numpy())
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "images.npy")])
    runpy.run_path(str(script), run_name="__main__")
    given = capsys.readouterr().out.splitlines()
    labels = opened(form).predict(FASHION_MNIST(images).contiguous()).argmax(1)
    assert given == [data.classes[label] for label in labels]


@pytest.mark.slow
def test_a_script_for_a_file_that_takes_one_image_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = onnx.load_model_from_string(ready("onnx-int8").data)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    (tmp_path / "one.onnx").write_bytes(graph.SerializeToString())
    script = tmp_path / "one.py"
    script.write_text(script_of(Runner("one.onnx", "onnx-int8", card(MODEL), 1)))
    images = load_dataset("fashion-mnist").validation.images[:5]
    np.save(tmp_path / "images.npy", images.squeeze(1).numpy())
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "images.npy")])
    runpy.run_path(str(script), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.slow
def test_every_file_says_of_what_it_is() -> None:
    assert details(ready("packed").data) == {"model": MODEL, "recipe": RECIPE.brief}
    assert ready("packed").data == packed()
    for form in ("onnx", "onnx-int8"):
        graph = onnx.load_model_from_string(ready(form).data)
        onnx.checker.check_model(graph)
        about = {p.key: p.value for p in graph.metadata_props}
        assert about["compression.model"] == MODEL
        assert about["compression.run"] == source().run.id
        assert json.loads(about["compression.recipe"]) == RECIPE.brief
        assert len(json.loads(about["compression.classes"])) == 10


@pytest.mark.slow
def test_a_program_takes_any_batch_and_holds_no_pickle_and_no_path() -> None:
    data = ready("pt2").data
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        inside = {name: file.read(name) for name in file.namelist()}
    about = next(json.loads(v) for k, v in inside.items() if k.endswith("/about.json"))
    assert (about["model"], about["run"]) == (MODEL, source().run.id)
    for name, content in inside.items():
        assert b".py" not in content, name
        assert not content.startswith(b"\x80"), name  # how a pickle begins
        assert b'"use_pickle": true' not in content, name
    model = source().model().to(memory_format=torch.contiguous_format)
    images = source().images(7).contiguous()
    with torch.inference_mode():
        for n in (1, 2, 7):
            assert torch.equal(opened("pt2").predict(images[:n]), model(images[:n]))


def test_the_file_kept_with_a_run_is_taken(store: Store) -> None:
    run = finished()
    store.runs.add(run)
    store.files.put(run.id, packed())
    kept = source_of(store, run)
    assert (kept.run, kept.packed, kept.notes) == (run, packed(), ())


@pytest.mark.slow
def test_where_none_was_kept_the_recipe_is_applied_again_and_the_outcome_compared(
    store: Store,
) -> None:
    run = finished()
    again = source_of(store, run, "cpu")
    assert again.packed == packed()
    assert "the same file to the last bit" in again.notes[0]
    other = source_of(store, finished(environment={"artifact_sha256": "0" * 64}), "cpu")
    assert "differs from the measured one" in other.notes[0]


def test_an_older_store_finds_the_file_that_an_example_comes_with(store: Store) -> None:
    assert examples()
    for example in examples():
        run = example.run
        store.runs.add(run)
        kept = source_of(store, run)
        assert hashlib.sha256(kept.packed).hexdigest() == run.environment["artifact_sha256"]
        assert kept.notes == ()


def test_what_cannot_be_had_is_refused_in_one_line(store: Store) -> None:
    with pytest.raises(InvalidInput, match="allowed: a run that is done; this one is failed"):
        source_of(store, finished(state=State.FAILED))
    with pytest.raises(InvalidInput, match="its file was not kept"):
        source_of(store, finished(stopped_early=True))
    with pytest.raises(InvalidInput, match="format: got 'tflite', allowed: packed, onnx, onnx-int"):
        make(source(), "tflite")


def test_a_model_without_images_has_no_int8_graph() -> None:
    foreign = finished().model_copy(update={"model": "imagenet/squeezenet1_1", "dataset": None})
    target = target_of(foreign.model, device="cpu")
    with pytest.raises(NotExportable, match="needs images to calibrate on"):
        make(replace(source(), run=foreign, target=target), "onnx-int8")
