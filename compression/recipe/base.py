"""What every kind of step has in common."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class BaseStep(BaseModel):
    """Settings of one step: frozen, checked, with a sentence in plain words."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def searches(self) -> bool:
        """Whether validation accuracy chooses something in this step."""
        return False

    def sentence(self) -> str:
        """What this step does, as a clause in plain words."""
        raise NotImplementedError


def chosen(value: Any) -> Any:
    """Several choices given as text (`a,b` or `none`), as a list without doubles, in one order."""
    if isinstance(value, str):
        value = [] if value.strip() in ("", "none") else [v.strip() for v in value.split(",")]
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(sorted(set(value)))
    return value


Repairs = Annotated[tuple[Literal["batchnorm", "bias"], ...], BeforeValidator(chosen)]
REPAIR = Field(
    default=(),
    title="Repair",
    description="batchnorm: estimate the statistics of batch normalisation again; "
    "bias: take each layer's mean output error off its bias.",
)
REPAIRED = {"batchnorm": "repaired", "bias": "biases corrected"}


def how(*words: str | None) -> str:
    """Words on how a step works, in brackets; nothing if there are none."""
    said = [word for word in words if word]
    return f" ({', '.join(said)})" if said else ""
