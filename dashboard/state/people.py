"""Who is at the page: a browser by its cookie, and the name its person gave, if any."""

from __future__ import annotations

import re

import streamlit as st

from compression.runs.store import Store, StoredRun

# Set by the server with the page, so that it is there before the first script runs.
COOKIE = "compression_person"
_KIND = "person"
_OURS = re.compile("[0-9a-f]{16}")


def person() -> str:
    """The id of the browser that looks at the page; empty where it has none of ours."""
    value = str(st.context.cookies.get(COOKIE, ""))
    return value if _OURS.fullmatch(value) else ""


def owns(entry: StoredRun) -> bool:
    """Whether the person may end or delete the run: it is theirs, or nobody's."""
    return entry.owner in ("", person())


def name_of(store: Store, owner: str) -> str:
    """What the owner of a run is called.

    Raises:
        StoreError: the store cannot be read.
    """
    body = store.facts.get(_KIND, owner)
    return str((body or {}).get("name") or "somebody else")


def own_name(store: Store) -> str:
    """The name the person gave; empty if none.

    Raises:
        StoreError: the store cannot be read.
    """
    body = store.facts.get(_KIND, person())
    return str((body or {}).get("name", ""))


def call_me(store: Store, name: str) -> None:
    """Keep the person's name.

    Raises:
        StoreError: the store cannot be written.
    """
    store.facts.put(_KIND, person(), {"name": " ".join(name.split())[:60]})
