"""A run is certified by its file, and compared with earlier runs of its recipe."""

from __future__ import annotations

import hashlib

import pytest

from compression.data.datasets import load_dataset
from compression.errors import InvalidInput
from compression.export.packed.file import pack
from compression.jobs import packed_source
from compression.jobs.execute import _compared, certify, execute
from compression.measure.accuracy import predict
from compression.models.load import load_model
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Quantize
from compression.runs.results import Run, State
from compression.runs.store import Store, new_run

pytestmark = pytest.mark.slow


MODEL, DATA = "fashion-mnist/shufflenet_v2_x0_5", "fashion-mnist"
RECIPE = Recipe(steps=(Quantize(bits=2),))


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def execute_recipe(store: Store | None = None) -> tuple[Run, bytes]:
    """A run and its file."""
    packed: list[bytes] = []
    run = new_run(MODEL, DATA, RECIPE, State.RUNNING)
    return execute(run, device="cpu", keep=packed.append, store=store), packed[0]


@pytest.fixture(scope="module")
def executed() -> tuple[Run, bytes]:
    return execute_recipe()


@pytest.fixture
def done(store: Store, executed: tuple[Run, bytes]) -> tuple[Run, bytes]:
    """A run that is stored with its file."""
    run, packed = executed
    store.runs.add(run, "cpu")
    store.files.put(run.id, packed)
    return executed


def test_a_certificate_is_of_the_stored_file_and_not_of_the_recipe(
    store: Store, done: tuple[Run, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = done
    original = load_model(MODEL)
    other = pack(original, architecture="shufflenet_v2_x0_5", classes=10, details={"model": MODEL})
    store.files.put(run.id, other)
    monkeypatch.setattr(packed_source, "compress", lambda *_, **__: pytest.fail("compressed"))
    certificate = certify(store, run, device="cpu")
    assert certificate.environment["artifact_sha256"] == sha(other)
    assert certificate.environment["split"] == "test" and certificate.id == run.id
    assert certificate.compressed is not None and certificate.compressed.top1 is not None
    right = int(predict(original, load_dataset(DATA).test).right.sum())
    assert certificate.compressed.top1.n == 10_000
    assert certificate.compressed.top1.value == pytest.approx(right / 10_000)
    assert certificate.compressed.artifact_bytes == len(other)
    assert certificate.delta is not None and certificate.delta.agreement == 1.0
    assert any("not the one that was measured" in note for note in certificate.notes)


def test_a_certificate_of_the_measured_file_has_its_sizes(
    store: Store, done: tuple[Run, bytes]
) -> None:
    run, packed = done
    certificate = certify(store, run, device="cpu")
    assert certificate.environment["artifact_sha256"] == sha(packed)
    assert certificate.environment["artifact_sha256"] == run.environment["artifact_sha256"]
    for each in ("artifact_bytes", "entropy_bound_bytes", "gzip_bytes", "sparsity", "nonzero"):
        assert getattr(certificate.compressed, each) == getattr(run.compressed, each), each
    assert not any("file" in note and "same" in note for note in certificate.notes)


def test_without_its_file_the_recipe_is_applied_again_and_the_certificate_says_so(
    store: Store, done: tuple[Run, bytes]
) -> None:
    run, _ = done
    bare = run.model_copy(update={"id": "0" * len(run.id)})
    store.runs.add(bare, "cpu")
    assert any("the same file to the last bit" in n for n in certify(store, bare).notes)
    with pytest.raises(InvalidInput, match="stopped early"):
        certify(store, bare.model_copy(update={"stopped_early": True}))
    with pytest.raises(InvalidInput, match="a run that is done; this one is failed"):
        certify(store, bare.model_copy(update={"state": State.FAILED}))


def test_a_recipe_done_again_says_whether_its_bytes_are_the_same(
    store: Store, done: tuple[Run, bytes]
) -> None:
    first, _ = done
    assert not any("of the same recipe" in note for note in first.notes)
    second, _ = execute_recipe(store)
    assert f"Run {first.id} of the same recipe gave the same file to the last bit." in second.notes
    elsewhere = {**second.environment, "artifact_sha256": "0" * 64, "threads": 77}
    store.runs.add(second.model_copy(update={"id": "f" * len(first.id), "environment": elsewhere}))
    (note,) = [n for n in _compared(store, first).notes if "of the same recipe" in n]
    assert "gave a different file (threads 77 there, " in note
