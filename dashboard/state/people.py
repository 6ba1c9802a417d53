"""Whose a run is: a browser's by its cookie, and the name its person gave, if any."""

from __future__ import annotations

import re
from collections.abc import Mapping

from compression.runs.store import Store

# Set by the server with the page, so that it is there before the first script runs.
COOKIE = "compression_person"
_KIND = "person"
_OURS = re.compile("[0-9a-f]{16}")


def person_of(cookies: Mapping[str, str]) -> str:
    """The id of the browser that sent these cookies; empty where none of them is ours."""
    value = str(cookies.get(COOKIE, ""))
    return value if _OURS.fullmatch(value) else ""


def name_of(store: Store, person: str) -> str:
    """The name that a person gave; empty if none.

    Raises:
        StoreError: the store cannot be read.
    """
    body = store.facts.get(_KIND, person)
    return str((body or {}).get("name", ""))


def keep_name(store: Store, person: str, name: str) -> None:
    """Keep a person's name, as one line.

    Raises:
        StoreError: the store cannot be written.
    """
    store.facts.put(_KIND, person, {"name": " ".join(name.split())[:60]})
