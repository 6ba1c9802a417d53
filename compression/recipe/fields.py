"""How a setting is declared, once, in the step's field; and what is read from it.

Widgets, command-line flags, presets, refusals and the reference table all read `settings()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """One value of a setting in plain words: a label, and in one line what it does.

    `remark` is what the recipe's sentence says of it, in brackets. `traits` are what other
    settings depend on, such as that an optimizer has momentum.
    """

    label: str
    help: str
    remark: str = ""
    needs_images: bool = False
    traits: tuple[str, ...] = ()


def with_trait(choices: Mapping[str, Choice], trait: str) -> tuple[str, ...]:
    """The values of a setting that have a trait."""
    return tuple(value for value, choice in choices.items() if trait in choice.traits)


@dataclass(frozen=True)
class Inactive:
    """A setting has no effect where `when` holds of all values of its step, by name."""

    when: Callable[[Values], bool]
    reason: str


@dataclass(frozen=True)
class Shown:
    """Where and how the page shows a setting; one that says nothing goes last in its step.

    `main` settings are sliders of their own. All others stand under them, in the order of `row`,
    those of one row side by side; `group` is the tab, where a step has tabs. `unset` says what it
    means to leave the setting unset. A number is typed, in increments, unless there are few
    values `offered`; `low` and `high` bound what the page offers more narrowly than what is
    allowed.
    """

    main: bool = False
    group: str = "More"
    row: int = 99
    short: str = ""
    unset: str = ""
    increment: float = 0.05
    offered: tuple[int, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class _Declaration:
    """What a field carries beside its type, default and range."""

    flag: str = ""
    unit: str = ""
    stored: str = ""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    by_preset: bool = False
    needs_images: bool = False
    inactive: tuple[Inactive, ...] = ()
    shown: Shown = Shown()


def setting(
    default: Any,
    *,
    title: str,
    help: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    unit: str = "",
    flag: str = "",
    stored: str = "",
    choices: Mapping[str, Choice] | None = None,
    by_preset: bool = False,
    needs_images: bool = False,
    inactive: tuple[Inactive, ...] = (),
    shown: Shown | None = None,
) -> Any:
    """A pydantic field that declares a step's setting.

    Args:
        default: Never changed later, so that the keys of stored recipes stay.
        flag: The command-line flag, if it is not the field's name.
        stored: The name in JSON and keys, for a field renamed since; it goes on being read.
        choices: The words for each value of a `Literal`; every value has its own.
        by_preset: Whether it says how a step works, so that presets decide it, rather than how
            much a person asks for.
        needs_images: Whether any value but the default needs images to calibrate on. A choice
            that does says so itself.
        inactive: When it has no effect beside the step's other values; the first that holds is
            the reason given.
        shown: Where the page shows it.
    """
    schema: dict[str, Any] = {k: v for k, v in (("unit", unit), ("flag", flag)) if v}
    bounds: dict[str, Any] = {"ge": ge, "gt": gt, "le": le}
    info: FieldInfo = Field(
        default=default,
        alias=stored or None,
        title=title,
        description=help,
        json_schema_extra=schema or None,
        **bounds,
    )
    info.metadata.append(
        _Declaration(
            flag, unit, stored, choices or {}, by_preset, needs_images, inactive, shown or Shown()
        )
    )
    return info


@dataclass(frozen=True)
class Setting:
    """One setting of a step, as widgets, flags and tables need it.

    `several` says that any number of the choices can be chosen, `optional` that the setting may
    be left unset, `text` that it is free text (names separated by commas if `several`). `aliases`
    are names that it had before.
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
    aliases: tuple[str, ...] = ()
    words: Mapping[str, Choice] = field(default_factory=dict)
    by_preset: bool = False
    images: bool = False
    inactive: tuple[Inactive, ...] = field(default=(), compare=False)
    shown: Shown = field(default=Shown(), compare=False)

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

    @property
    def details(self) -> str:
        """The help, and what each choice does."""
        lines = "; ".join(f"{value}: {words.help}" for value, words in self.words.items())
        return f"{self.help} {lines}." if lines else self.help

    def label(self, value: str) -> str:
        """A choice as a person reads it."""
        return self.words[value].label if value in self.words else value

    def needs_images(self, value: Any) -> bool:
        """Whether this value can only be had with images to calibrate on."""
        if value == self.default or value is None:
            return False
        values = value if isinstance(value, tuple | list) else (value,)
        return self.images or any(v in self.words and self.words[v].needs_images for v in values)

    def inactive_reason(self, values: Values) -> str | None:
        """Why it has no effect beside all of a step's values, by name; None if it has."""
        return next((rule.reason for rule in self.inactive if rule.when(values)), None)


@cache
def settings(step: type[BaseModel]) -> tuple[Setting, ...]:
    """The settings of a step, in the order in which they are stored.

    Raises:
        TypeError: a setting's choices and the words for them are not the same.
    """
    fields = step.model_fields.items()
    return tuple(_read(name, info) for name, info in fields if name not in ("step", "steps"))


def _read(name: str, info: FieldInfo) -> Setting:
    declared = next((m for m in info.metadata if isinstance(m, _Declaration)), _Declaration())
    bounds = {k: getattr(m, k) for m in info.metadata for k in ("ge", "gt", "le") if hasattr(m, k)}
    kinds = _kinds(info.annotation)
    choices = tuple(k for k in kinds if isinstance(k, str))
    if choices != tuple(declared.choices):
        raise TypeError(f"{name}: choices {choices}, words for {tuple(declared.choices)}")
    return Setting(
        name=name,
        flag="--" + (declared.flag or name).replace("_", "-"),
        title=info.title or name,
        help=info.description or "",
        unit=declared.unit,
        default=info.default,
        low=bounds.get("ge", bounds.get("gt")),
        high=bounds.get("le"),
        choices=choices,
        integer=int in kinds,
        above="gt" in bounds,
        several=get_origin(info.annotation) is tuple,
        optional=NoneType in kinds,
        text=str in kinds,
        aliases=(declared.stored,) if declared.stored else (),
        words=declared.choices,
        by_preset=declared.by_preset,
        images=declared.needs_images,
        inactive=declared.inactive,
        shown=declared.shown,
    )


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The types and the literal values an annotation is made of."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    inner = get_args(annotation)
    return tuple(k for a in inner for k in _kinds(a)) if inner else (annotation,)
