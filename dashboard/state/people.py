"""Whose a run is: a browser's by its cookie, and the name its person gave, if any."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import compare_digest

from compression.runs.store import Store, StoredRun
from compression.runs.stored_run import one_line, public_id

# Set by the server with the page, so that it is there before the first script runs.
COOKIE = "compression_person"
# Set by the server for who opens the link that it printed.
ADMIN_COOKIE = "compression_admin"
ONLY_ITS_OWNER = "Only its owner or an admin can change this run."
_KIND = "person"
_OURS = re.compile("[0-9a-f]{16}")
_PUBLIC = re.compile("[0-9a-f]{8}")


@dataclass(frozen=True)
class Visitor:
    """Who looks at the page. `person` is the id of their browser, empty where it has none;
    `administered` says that the server has an admin, be it them or not."""

    person: str
    admin: bool = False
    administered: bool = False

    def may_change(self, owner: str) -> bool:
        """Whether they may cancel, rename, pin, hide or delete a run of this owner.

        Their own, and everybody's if they are the admin. What nobody has asked for on the page
        (examples, runs of the command line) is everybody's, unless an admin looks after it.
        """
        if self.admin:
            return True
        return owner == self.person if owner else not self.administered


def person_of(cookies: Mapping[str, str]) -> str:
    """The id of the browser that sent these cookies; empty where none of them is ours."""
    value = str(cookies.get(COOKIE, ""))
    return value if _OURS.fullmatch(value) else ""


def is_admin(cookies: Mapping[str, str], token: str) -> bool:
    """Whether the browser that sent these cookies has opened the admin's link."""
    given = str(cookies.get(ADMIN_COOKIE, ""))
    return bool(token) and compare_digest(given.encode(), token.encode())


def is_public_id(text: str) -> bool:
    """Whether a text has the form of a public id."""
    return bool(_PUBLIC.fullmatch(text))


def runs_of(entries: Sequence[StoredRun], whose: str) -> list[StoredRun]:
    """The runs of the person with that public id."""
    return [e for e in entries if e.owner and public_id(e.owner) == whose]


def owners(entries: Sequence[StoredRun]) -> set[str]:
    """Everybody who has asked for one of these runs."""
    return {e.owner for e in entries if e.owner}


def name_of(store: Store, person: str) -> str:
    """The name that a person gave; empty if none.

    Raises:
        StoreError: the store cannot be read.
    """
    body = store.facts.get(_KIND, person)
    return str((body or {}).get("name", ""))


def names(store: Store) -> dict[str, str]:
    """Everybody who gave a name, by id; of those who gave the same, each with their public id.

    Raises:
        StoreError: the store cannot be read.
    """
    given = {person: str(body.get("name", "")) for person, body in store.facts.all(_KIND).items()}
    count = Counter(name.casefold() for name in given.values())
    return {
        person: f"{name} ({public_id(person)[:4]})" if count[name.casefold()] > 1 else name
        for person, name in given.items()
        if name
    }


def shown_name(person: str, names: Mapping[str, str]) -> str:
    """What others call a person: by the name they gave, or else a guest."""
    return names.get(person) or f"Guest {public_id(person)[:4]}"


def keep_name(store: Store, person: str, name: str) -> None:
    """Keep a person's name, as one line.

    Raises:
        InvalidInput: it is too long, or has characters that belong in no line.
        StoreError: the store cannot be written.
    """
    store.facts.put(_KIND, person, {"name": one_line("name", " ".join(name.split()))})
