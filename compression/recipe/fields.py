"""What widgets, command-line flags and reference tables need to know of a step's fields."""

from __future__ import annotations

from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel


@dataclass(frozen=True)
class Setting:
    """One setting of a step, as widgets, flags and tables need it.

    `several` says that any number of the choices can be chosen, `optional` that the setting may
    be left unset, `text` that it is free text (names separated by commas if `several`).
    """

    name: str
    flag: str
    title: str
    help: str
    unit: str
    default: Any
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    integer: bool
    above: bool = False
    several: bool = False
    optional: bool = False
    text: bool = False

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.text:
            return "none, or names separated by commas" if self.several else "a name"
        if self.several:
            return f"none, or some of {', '.join(self.choices)}"
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
        kinds = _kinds(field.annotation)
        found.append(
            Setting(
                name=name,
                flag="--" + str(extra.get("flag", name)).replace("_", "-"),
                title=field.title or name,
                help=field.description or "",
                unit=str(extra.get("unit", "")),
                default=field.default,
                low=bounds.get("ge", bounds.get("gt")),
                high=bounds.get("le", bounds.get("lt")),
                choices=tuple(k for k in kinds if isinstance(k, str)),
                integer=int in kinds,
                above="gt" in bounds,
                several=get_origin(field.annotation) is tuple,
                optional=NoneType in kinds,
                text=str in kinds,
            )
        )
    return tuple(found)


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The types and the literal values an annotation is made of."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    inner = get_args(annotation)
    return tuple(k for a in inner for k in _kinds(a)) if inner else (annotation,)
