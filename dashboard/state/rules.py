"""What whoever started the server has set for everybody who uses it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """`runs_per_person` is how many runs of one person may wait, any number if None. Whoever has
    `admin_token` may change everybody's runs; nobody where it is empty. `shared` says that other
    machines can reach the page."""

    runs_per_person: int | None = None
    admin_token: str = ""
    shared: bool = False


# Of this process, not in its environment: programs that it starts would inherit the token.
_set = [Rules()]


def set_rules(rules: Rules) -> None:
    """Set them, before the page is served."""
    _set[0] = rules


def rules() -> Rules:
    """The rules that hold here; none, where the page was started without any."""
    return _set[0]
