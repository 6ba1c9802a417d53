"""Stored examples: finished runs that come with the program, with how they trained. No torch."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from compression.errors import CompressionError, InvalidInput
from compression.paths import assets_dir
from compression.recipe.recipe import Recipe
from compression.runs.progress import Curve
from compression.runs.results import Run, State
from compression.runs.store import Store


class Example(BaseModel):
    """A run worth showing, and its measurement on the test images. Its recipe can be run again:
    `--preset NAME`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    description: str
    run: Run
    certificate: Run | None = None
    curves: tuple[Curve, ...] = ()


def _folder() -> Path:
    return assets_dir() / "examples"


def names() -> tuple[str, ...]:
    """The names of the examples, in alphabetical order; no file is read."""
    return tuple(sorted(path.stem for path in _folder().glob("*.json")))


def read_example(name: str) -> Example:
    """The example of that name.

    Raises:
        InvalidInput: there is none.
        CompressionError: its file is damaged.
    """
    if name not in names():
        raise InvalidInput("example", name, ", ".join(names()) or "none: no examples are installed")
    path = _folder() / f"{name}.json"
    try:
        example = Example.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from None
    run = example.run
    if example.name != name:
        raise _damaged(path, f"it is named {example.name}")
    if run.state is not State.DONE or run.recipe_key != run.recipe.key:
        raise _damaged(path, "it holds no finished run of its recipe")
    return example


def example_file(name: str) -> bytes | None:
    """The packed model of an example, if it comes with it. `read_example` says whose it is."""
    try:
        return (_folder() / f"{name}.safetensors").read_bytes()
    except OSError:
        return None


def _damaged(path: Path, reason: str) -> CompressionError:
    return CompressionError(f"example: {path} cannot be read ({reason})")


def examples() -> list[Example]:
    """All examples, in alphabetical order.

    Raises:
        CompressionError: a file is damaged.
    """
    return [read_example(name) for name in names()]


def recipe_for(name: str, model: str, seed: int | None = None) -> Recipe:
    """The recipe of an example, for a model; from another seed if one is given.

    Raises:
        InvalidInput: it names layers or a student that belong to the example's own model.
        CompressionError: the example's file is damaged.
    """
    example = read_example(name)
    recipe, example_model = example.run.recipe, example.run.model
    if model != example_model and (named := _bound(recipe)):
        raise InvalidInput(
            "preset", name, f"only with {example_model}, because its recipe names {named}"
        )
    return recipe if seed is None else recipe.model_copy(update={"seed": seed})


def _bound(recipe: Recipe) -> str | None:
    """What in a recipe belongs to one model."""
    for step in recipe.steps:
        if getattr(step, "student", None) is not None:
            return "a student"
        if getattr(step, "layers", ()):
            return "layers"
    return None


def put_examples(store: Store) -> None:
    """Put the examples into a store that has no runs and has never had them.

    Raises:
        CompressionError: an example's file is damaged, or the store cannot be written.
    """
    shipped = examples()
    if not shipped or store.runs.find():
        return
    # whoever adds this puts them in: two pages may start at once
    if store.facts.add("store", "examples", {"names": [e.name for e in shipped]}):
        for example in shipped:
            store.runs.add(example.run)
            packed = example_file(example.name)
            if packed is not None:
                store.files.put(example.run.id, packed)
            for curve in example.curves:
                store.curves.put(example.run.id, curve)
            if example.certificate is not None:
                store.certificates.put(example.run.id, example.certificate)
