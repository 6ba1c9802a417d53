"""Recipes: which steps, in which order, from which seed. Settings only; nothing runs here.

Ranges, units, help and choices live in the fields. Widgets, command-line flags, presets, refusals
and the reference table are made from them by `settings()`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compression.errors import InvalidInput
from compression.recipe.fields import setting, settings
from compression.recipe.steps import (
    STEPS,
    Distill,
    Prune,
    Quantize,
    Step,
)


class Recipe(BaseModel):
    """Steps in order and the one seed all randomness comes from. Immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[Step, ...] = Field(default=(), max_length=32)
    seed: int = setting(0, ge=0, le=2**31 - 1, title="Seed", help="Fixes all randomness.")

    @model_validator(mode="after")
    def _student_first(self) -> Self:
        if any(getattr(s, "student", None) is not None for s in self.steps[1:]):
            raise ValueError("a student only in the first step: what came before would be lost")
        return self

    @property
    def key(self) -> str:
        """12 hexadecimal digits that identify the recipe: a hash of its non-default settings."""
        text = json.dumps(self.brief, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def brief(self) -> dict[str, Any]:
        """The recipe as JSON without what is at its default: the same when settings are added."""
        return {
            "steps": [
                {"step": s.step, **_plain(s.model_dump(mode="json", exclude_defaults=True))}
                for s in self.steps
            ],
            "seed": self.seed,
        }

    @property
    def parent(self) -> Recipe | None:
        """The recipe without its last step; None for the empty recipe (the original)."""
        return self.model_copy(update={"steps": self.steps[:-1]}) if self.steps else None

    @property
    def quantizes(self) -> bool:
        """Whether a step puts weights on a grid."""
        return any(isinstance(step, Quantize) for step in self.steps)

    @property
    def trains(self) -> bool:
        """Whether a step trains, so that there are curves to read."""
        return any(isinstance(step, Distill) for step in self.steps)

    @property
    def searches(self) -> bool:
        """Whether a step chooses by validation accuracy.

        Such a step looks at one half of the validation images only, and the run is reported on the
        other: figures on images that something was chosen by are too good.
        """
        return any(step.searches for step in self.steps)

    def sentence(self) -> str:
        """What will happen, in one sentence."""
        if not self.steps:
            return "Measure the original as it is."
        clauses = [s.sentence() for s in self.steps]
        for i, step in enumerate(self.steps):
            if isinstance(step, Quantize) and any(isinstance(s, Prune) for s in self.steps[:i]):
                clauses[i] = clauses[i].replace("the weights", "the rest")
        text = ", then ".join(clauses) if len(clauses) < 3 else _listed(clauses)
        return text[0].upper() + text[1:] + "."

    def to_json(self) -> str:
        """The canonical JSON form, with every setting spelled out except those that are unset."""
        return self.model_dump_json(exclude_none=True)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    # -0.0 equals 0.0, so it must read the same in a key
    return {k: v + 0.0 if isinstance(v, float) else v for k, v in values.items()}


def _listed(clauses: list[str]) -> str:
    return ", ".join(clauses[:-1]) + ", then " + clauses[-1]


_T = TypeVar("_T", bound=BaseModel)


def parse(kind: type[_T], values: Mapping[str, Any]) -> _T:
    """Validate settings.

    Raises:
        InvalidInput: naming the field, what was given and what is allowed.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise _first(error, kind.__name__.lower()) from None


def parse_recipe(text: str, source: str = "recipe") -> Recipe:
    """Read a recipe from JSON text.

    Args:
        text: a JSON document, as `Recipe.to_json` writes it.
        source: what the text is called in messages.

    Returns:
        The recipe, validated; settings left out have their defaults.

    Raises:
        InvalidInput: not JSON, an unknown field, or a setting out of range.

    Example:
        >>> from compression import parse_recipe
        >>> recipe = parse_recipe('{"steps": [{"step": "quantize", "bits": 4}]}')
        >>> recipe.steps[0].bits, recipe.seed
        (4, 0)
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(source, text[:40], f"a JSON object ({error})") from None
    if not isinstance(values, dict):
        raise InvalidInput(source, text[:40], 'a JSON object such as {"steps": [], "seed": 0}')
    return parse(Recipe, values)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Args:
        path: a file of JSON, in UTF-8.

    Returns:
        The recipe, as `parse_recipe`.

    Raises:
        InvalidInput: the file cannot be read or is not a recipe.

    Example:
        >>> from pathlib import Path
        >>> from compression import Quantize, Recipe, read_recipe
        >>> path = Path("recipe.json")
        >>> size = path.write_text(Recipe(steps=(Quantize(bits=4),)).to_json())
        >>> read_recipe(path).steps[0].bits
        4
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidInput("recipe", str(path), f"a readable JSON file ({reason})") from None
    return parse_recipe(text, "recipe")


def _first(error: ValidationError, kind: str) -> InvalidInput:
    details = error.errors(include_url=False)[0]
    # the kind of a step is in the location twice: once as the place, once as the tag
    loc = details["loc"]
    path = [str(p) for i, p in enumerate(loc) if not (i == 2 and loc[0] == "steps")]
    given: Any = details["input"]
    allowed = details["msg"][0].lower() + details["msg"][1:]
    if details["type"] == "extra_forbidden":
        return InvalidInput(".".join(path), given, "no such setting; remove it")
    if details["type"].startswith("union_tag"):
        given = given.get("step") if isinstance(given, dict) else given
        return InvalidInput(".".join([*path, "step"]), given, ", ".join(STEPS))
    if details["type"] == "value_error":
        given = (
            {k: v for k, v in given.items() if k != "step"} if isinstance(given, dict) else given
        )
        path = path or [kind]
        allowed = allowed.removeprefix("value error, ")
    if details["type"].endswith(("tuple_type", "list_type")):
        allowed = "a list"
    elif "dict" in details["type"] or "model" in details["type"]:
        allowed = "a JSON object"
    if len(path) > 1 and path[-1].isdigit() and path[-2] != "steps":
        path.pop()  # which of several choices it was is seen from what was given
    return InvalidInput(".".join(path), given, _range(path[-1]) or allowed)


def _range(name: str) -> str:
    declared = [s for step in (*STEPS.values(), Recipe) for s in settings(step)]
    return next((s.allowed for s in declared if name in (s.name, *s.aliases)), "")
