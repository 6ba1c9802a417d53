"""Recipes: which steps, with which settings, in which order. Settings only; nothing runs here.

Ranges, units and help live in the fields. Widgets, command-line flags and the reference table in
the README are made from them by `settings()`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from compression.errors import InvalidInput


class _Step(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def sentence(self) -> str:
        """What this step does, as a clause in plain words."""
        raise NotImplementedError


class Prune(_Step):
    """Set the weights of least magnitude to zero (Han et al., 2015)."""

    step: Literal["prune"] = "prune"
    threshold: float | None = Field(
        default=None,
        ge=0,
        title="Pruning threshold",
        description="Weights smaller than this in magnitude become zero.",
        json_schema_extra={"unit": "|w|"},
    )
    sparsity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        title="Sparsity",
        description="Fraction of the weights to set to zero, smallest first.",
        json_schema_extra={"unit": "fraction"},
    )
    scope: Literal["global", "layer"] = Field(
        default="global",
        title="Sparsity counted over",
        description="One ranking over the whole network, or the same sparsity in every layer.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.threshold is None) == (self.sparsity is None):
            raise ValueError("exactly one of threshold and sparsity")
        return self

    def sentence(self) -> str:
        if self.threshold is not None:
            return f"zero every weight smaller than {self.threshold:.3g}"
        where = "" if self.scope == "global" else " of every layer"
        return f"zero the smallest {100 * (self.sparsity or 0):.3g} % of weights{where}"


class Quantize(_Step):
    """Round the weights to a grid of 2**bits values per scale (Jacob et al., 2018)."""

    step: Literal["quantize"] = "quantize"
    bits: int = Field(
        default=8,
        ge=2,
        le=8,
        title="Bit width",
        description="Bits per weight.",
        json_schema_extra={"unit": "bits"},
    )
    scheme: Literal["symmetric", "affine"] = Field(
        default="symmetric",
        title="Grid",
        description="Symmetric about zero, or affine with a zero point of its own.",
    )
    granularity: Literal["channel", "tensor"] = Field(
        default="channel",
        title="One scale per",
        description="A scale for every output channel, or one for the whole tensor.",
    )
    clipping: Literal["mse", "minmax"] = Field(
        default="mse",
        title="Range",
        description="The range with the least squared error, or from smallest to largest weight.",
    )

    def sentence(self) -> str:
        return f"store the weights in {self.bits} bits"


class Distill(_Step):
    """Teach the compressed model to answer like the original (Hinton et al., 2015)."""

    step: Literal["distill"] = "distill"
    temperature: float = Field(
        default=4.0,
        gt=0,
        le=50,
        title="Distillation temperature",
        description="Softens the original's answers: higher shows more of its second guesses.",
        json_schema_extra={"unit": "T"},
    )
    alpha: float = Field(
        default=0.9,
        ge=0,
        le=1,
        title="Weight of the original's answers",
        description="1 learns only from the original's answers, 0 only from the labels.",
        json_schema_extra={"unit": "fraction"},
    )
    epochs: int = Field(
        default=1,
        ge=1,
        le=100,
        title="Epochs",
        description="Passes over the training images.",
        json_schema_extra={"unit": "epochs"},
    )
    learning_rate: float = Field(
        default=0.01,
        gt=0,
        le=1,
        title="Learning rate",
        description="Largest step size; falls to zero along a cosine.",
    )

    def sentence(self) -> str:
        count = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"teach for {count} at T = {self.temperature:.3g}"


Step = Annotated[Prune | Quantize | Distill, Field(discriminator="step")]
STEPS: dict[str, type[_Step]] = {"prune": Prune, "quantize": Quantize, "distill": Distill}


class Recipe(BaseModel):
    """Steps in order and the one seed all randomness comes from. Immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_steps: ClassVar[int] = 32

    steps: tuple[Step, ...] = Field(default=(), max_length=32)
    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, title="Seed", description="Fixes all randomness."
    )

    @property
    def key(self) -> str:
        """12 hexadecimal digits that identify the recipe: a hash of its non-default settings."""
        plain = {
            "steps": [
                {"step": s.step, **_plain(s.model_dump(mode="json", exclude_defaults=True))}
                for s in self.steps
            ],
            "seed": self.seed,
        }
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def parent(self) -> Recipe | None:
        """The recipe without its last step; None for the empty recipe (the original)."""
        return self.model_copy(update={"steps": self.steps[:-1]}) if self.steps else None

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
        raise _first(error) from None


def parse_recipe(text: str, source: str = "recipe") -> Recipe:
    """Read a recipe from JSON text.

    Raises:
        InvalidInput: not JSON, an unknown field, or a setting out of range.
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

    Raises:
        InvalidInput: the file cannot be read or is not a recipe.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InvalidInput("recipe", str(path), f"a readable JSON file ({reason})") from None
    return parse_recipe(text, "recipe")


def _first(error: ValidationError) -> InvalidInput:
    found = error.errors(include_url=False)[0]
    # the kind of a step is in the location twice: once as the place, once as the tag
    loc = found["loc"]
    path = [str(p) for i, p in enumerate(loc) if not (i == 2 and loc[0] == "steps")]
    given: Any = found["input"]
    allowed = found["msg"][0].lower() + found["msg"][1:]
    if found["type"] == "extra_forbidden":
        return InvalidInput(".".join(path), given, "no such setting; remove it")
    if found["type"].startswith("union_tag"):
        given = given.get("step") if isinstance(given, dict) else given
        return InvalidInput(".".join([*path, "step"]), given, ", ".join(STEPS))
    if found["type"] == "value_error":
        given = (
            {k: v for k, v in given.items() if k != "step"} if isinstance(given, dict) else given
        )
        path = path or ["prune"]
        allowed = allowed.removeprefix("value error, ")
    if found["type"].endswith(("tuple_type", "list_type")):
        allowed = "a list"
    elif "dict" in found["type"] or "model" in found["type"]:
        allowed = "a JSON object"
    return InvalidInput(".".join(path), given, _range(path[-1]) or allowed)


@dataclass(frozen=True)
class Setting:
    """One setting of a step, as widgets, flags and tables need it."""

    name: str
    title: str
    help: str
    unit: str
    default: Any
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    integer: bool
    above: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return ", ".join(self.choices)
        if self.high is None:
            return f"{self.low:g} or more"
        if self.integer:
            return f"a whole number from {self.low or 0:.0f} to {self.high:.0f}"
        return f"from {self.low:g} to {self.high:g}" + (", above 0" if self.above else "")


def settings(step: type[BaseModel]) -> tuple[Setting, ...]:
    """The settings of a step, in the order in which they are shown."""
    found = []
    for name, field in step.model_fields.items():
        if name in ("step", "steps"):
            continue
        bounds = {
            k: getattr(m, k)
            for m in field.metadata
            for k in ("ge", "gt", "le", "lt")
            if hasattr(m, k)
        }
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        literal = [a for a in get_args(field.annotation) if isinstance(a, str)]
        found.append(
            Setting(
                name=name,
                title=field.title or name,
                help=field.description or "",
                unit=str(extra.get("unit", "")),
                default=field.default,
                low=bounds.get("ge", bounds.get("gt")),
                high=bounds.get("le", bounds.get("lt")),
                choices=tuple(literal),
                integer=field.annotation is int,
                above="gt" in bounds,
            )
        )
    return tuple(found)


def _range(name: str) -> str:
    known = [s for step in STEPS.values() for s in settings(step)]
    seed = [s for s in settings(Recipe) if s.name == "seed"]
    return next((s.allowed for s in [*known, *seed] if s.name == name), "")
