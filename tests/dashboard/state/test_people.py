"""Who somebody is to others, and what they may change."""

from __future__ import annotations

import pytest

from compression.errors import InvalidInput
from compression.runs.store import Store
from dashboard.state import people

ADA, GRACE, ALAN = "a" * 16, "b" * 16, "c" * 16


@pytest.mark.parametrize(
    ("owner", "admin", "administered", "may"),
    [
        (ADA, False, False, True),
        (ADA, False, True, True),
        (GRACE, False, False, False),
        (GRACE, False, True, False),
        (GRACE, True, True, True),
        ("", False, False, True),
        ("", False, True, False),
        ("", True, True, True),
    ],
)
def test_owner_and_admin_may_change_a_run(
    owner: str, admin: bool, administered: bool, may: bool
) -> None:
    assert people.Visitor(ADA, admin, administered).may_change(owner) is may


def test_who_has_no_id_is_not_the_owner_of_what_nobody_asked_for() -> None:
    assert not people.Visitor("", administered=True).may_change("")
    assert not people.Visitor("").may_change(ADA)


def test_only_the_token_makes_an_admin_and_no_token_makes_none() -> None:
    assert people.is_admin({people.ADMIN_COOKIE: "secret"}, "secret")
    for given in ("", "secre", "secret ", "sécret"):
        assert not people.is_admin({people.ADMIN_COOKIE: given}, "secret")
    assert not people.is_admin({}, "secret")
    assert not people.is_admin({people.ADMIN_COOKIE: ""}, "")


def test_people_are_told_apart_also_where_they_gave_the_same_name(store: Store) -> None:
    for person, name in ((ADA, "Ada"), (GRACE, "ada"), (ALAN, "Alan")):
        people.keep_name(store, person, name)
    names = people.names(store)
    assert names[ALAN] == "Alan"
    assert names[ADA].startswith("Ada (") and names[GRACE].startswith("ada (")
    assert names[ADA].casefold() != names[GRACE].casefold()
    people.keep_name(store, GRACE, "")
    assert people.names(store) == {ADA: "Ada", ALAN: "Alan"}
    assert people.shown_name(GRACE, people.names(store)) == f"Guest {people.public_id(GRACE)[:4]}"


@pytest.mark.parametrize("name", ["x" * 61, "nul\0", "half \udcff"])
def test_a_name_that_is_no_line_is_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput, match="name: got "):
        people.keep_name(store, ADA, name)
    assert people.names(store) == {}


def test_what_an_address_calls_a_person_gives_nothing_away() -> None:
    ids = {people.public_id(f"{number:016x}") for number in range(100)}
    assert len(ids) == 100 and all(map(people.is_public_id, ids))
    assert people.public_id(ADA) not in ADA
    for text in ("", "mine", "ABCDEF12", "abcdef123", "abcdef12\n"):
        assert not people.is_public_id(text)
