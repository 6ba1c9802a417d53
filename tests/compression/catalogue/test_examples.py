"""Examples: read from their files, run again as presets, and put into a new store once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compression.catalogue import examples
from compression.catalogue.examples import put_examples, read_example
from compression.cli.flags import recipe_of
from compression.errors import CompressionError, InvalidInput
from compression.export.packed.file import unpack
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill
from compression.runs.store import Store, open_store
from tests.compression.example_runs import MODEL, OTHER, RECIPE, example, finished


def test_what_was_written_is_read(write: Callable[..., Path]) -> None:
    assert examples.names() == ()
    one, two = example(), example("another")
    write(one)
    write(two)
    assert examples.names() == ("another", "tiny")
    assert examples.examples() == [two, one]
    with pytest.raises(InvalidInput, match="example: got 'none', allowed: another, tiny"):
        read_example("none")


def test_a_damaged_file_is_said_in_one_line(write: Callable[..., Path]) -> None:
    one = example()
    queued = json.loads(one.run.to_json()) | {"state": "queued"}
    mixed = json.loads(one.run.to_json()) | {"recipe_key": "0" * 12}
    for changed in ({"name": "other"}, {"extra": 1}, {"run": queued}, {"run": mixed}):
        path = write(one, **changed)
        with pytest.raises(CompressionError, match=r"tiny\.json cannot be read") as caught:
            read_example("tiny")
        assert "\n" not in str(caught.value)
    path.write_text("{")
    with pytest.raises(CompressionError, match=r"tiny\.json cannot be read"):
        read_example("tiny")


def recipe(
    preset: str, *, flags: dict[str, Any] | None = None, model: str = MODEL, **more: Any
) -> Recipe:
    file, seed = more.get("file"), more.get("seed")
    return recipe_of(model, flags or {}, file, seed, preset, images=True)


def test_as_a_preset_it_is_its_whole_recipe(write: Callable[..., Path]) -> None:
    write(example())
    assert recipe("tiny", flags={"bits": None}) == RECIPE
    assert recipe("tiny", seed=8) == RECIPE.model_copy(update={"seed": 8})
    assert recipe("tiny", model=OTHER) == RECIPE
    for bad, line in (
        ({"flags": {"bits": "4"}}, "preset: got 'tiny', allowed: an example alone, without --bits"),
        ({"file": Path("r.json")}, "without --recipe"),
        ({"seed": -1}, "seed: got -1"),
    ):
        with pytest.raises(InvalidInput, match=line):
            recipe("tiny", **bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="allowed: fast, better, best, smallest, tiny"):
        recipe("giant")


@pytest.mark.parametrize(
    ("step", "what"),
    [
        (Distill(loss="attention", layers=("layer1",)), "names layers"),
        (Distill(student=OTHER), "names a student"),
    ],
)
def test_a_recipe_that_names_parts_of_a_model_is_for_that_model_only(
    step: Distill, what: str, write: Callable[..., Path]
) -> None:
    own = Recipe(steps=(step,))
    write(example(recipe=own))
    assert recipe("tiny") == own
    with pytest.raises(InvalidInput, match=f"only with {MODEL}, because its recipe {what}"):
        recipe("tiny", model=OTHER)


def test_a_new_store_gets_them_once(write: Callable[..., Path], store: Store) -> None:
    put_examples(store)  # there are none, and so it has not had them
    one = example()
    write(one)
    put_examples(store)
    put_examples(open_store(store.url))
    assert [e.run for e in store.runs.find()] == [one.run]
    assert store.curves.get(one.run.id) == list(one.curves)
    store.runs.delete(one.run.id)
    put_examples(store)
    assert store.runs.find() == []
    assert store.curves.get(one.run.id) == []


def test_its_file_comes_along_if_there_is_one(write: Callable[..., Path], store: Store) -> None:
    one, bare = example(), example("without")
    write(one).with_suffix(".safetensors").write_bytes(b"packed")
    write(bare)
    put_examples(store)
    assert store.files.get(one.run.id) == b"packed"
    assert store.files.get(bare.run.id) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", examples.names())
def test_a_stored_file_is_the_one_that_was_measured(name: str) -> None:
    run, packed = read_example(name).run, examples.example_file(name)
    assert packed is not None and run.compressed is not None
    assert hashlib.sha256(packed).hexdigest() == run.environment["artifact_sha256"]
    assert len(packed) == run.compressed.artifact_bytes
    assert unpack(packed)(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_a_store_with_runs_is_left_alone(write: Callable[..., Path], store: Store) -> None:
    write(example())
    own = finished()
    store.runs.add(own)
    put_examples(store)
    assert [e.run for e in store.runs.find()] == [own]
