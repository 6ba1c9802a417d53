"""What every kind of step has in common."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from compression.recipe.fields import Choice, settings


class BaseStep(BaseModel):
    """Settings of one step: frozen, validated, with a sentence in plain words.

    In JSON a renamed setting keeps the name it had, so that stored recipes and keys stay; both
    names are read.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    @property
    def searches(self) -> bool:
        """Whether validation accuracy chooses something in this step."""
        return False

    def sentence(self) -> str:
        """What this step does, as a clause in plain words."""
        raise NotImplementedError

    def headline(self) -> str:
        """How much this step does, in a few characters: what its run is called by.

        Two steps that differ in how much they do never have the same.
        """
        raise NotImplementedError

    def remarks(self, *names: str) -> list[str]:
        """What the sentence says, in brackets, of the choices made for these settings."""
        words = {s.name: s.words for s in settings(type(self))}
        values = ((n, getattr(self, n)) for n in names)
        chosen = ((n, v) for n, value in values for v in as_tuple(value))
        return [remark for n, v in chosen if (remark := words[n][v].remark)]


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Several choices as they are, one choice by itself."""
    return value if isinstance(value, tuple) else (value,)


def as_set(value: Any) -> Any:
    """Several values given as text (`a,b` or `none`) or a list: a sorted tuple without doubles."""
    if isinstance(value, str):
        value = [] if value.strip() in ("", "none") else [v.strip() for v in value.split(",")]
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(sorted(set(value)))
    return value


Repairs = Annotated[tuple[Literal["batchnorm", "bias"], ...], BeforeValidator(as_set)]
REPAIR: dict[str, Any] = {
    "title": "Corrections",
    "help": "Corrections of the compressed model on calibration images.",
    "by_preset": True,
    "choices": {
        "batchnorm": Choice(
            "Batch-norm statistics",
            "batch-norm statistics are re-estimated",
            "batch norm re-estimated",
            needs_images=True,
        ),
        "bias": Choice(
            "Bias correction",
            "each layer's mean output error is subtracted from its bias",
            "biases corrected",
            needs_images=True,
        ),
    },
}


def plain(value: float, power: int = 0) -> str:
    """A number times ten to a power, in as few digits as tell it from every other: 95, 0.01."""
    number = Decimal(repr(float(value) + 0.0)).scaleb(power).normalize()
    return f"{number:f}" if -5 < number.adjusted() < 7 else f"{number:e}"


def in_brackets(remarks: Iterable[str]) -> str:
    """Remarks on how a step works, in brackets; nothing if there are none."""
    text = ", ".join(remarks)
    return f" ({text})" if text else ""
