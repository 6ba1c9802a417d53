"""Runs have names and owners: what a person may do with their own and with others'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.runs.results import State
from compression.runs.store import Store, new_run
from dashboard.state import people, session
from tests.dashboard.page import Open, healthy, text_of
from tests.dashboard.runs import MODEL, done, fill, recipe

ME, OTHER = "a" * 16, "b" * 16


@pytest.fixture(autouse=True)
def _me(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "person", lambda: ME)


def running(store: Store, owner: str) -> str:
    run = new_run(MODEL, "fashion-mnist", recipe(bits=4))
    store.runs.add(run, "cpu", owner)
    store.jobs.claim("somebody")
    return run.id


def test_a_run_of_somebody_else_cannot_be_cancelled_or_deleted(page: Open, store: Store) -> None:
    store.facts.put("person", OTHER, {"name": "Ada"})
    run_id = running(store, OTHER)
    at = page(run=run_id)
    assert at.button(key=f"cancel_{run_id}").disabled
    assert at.button(key="delete_run").disabled
    assert "asked for by Ada" in text_of(at)


def test_ones_own_can(page: Open, store: Store) -> None:
    run_id = running(store, ME)
    at = page(run=run_id)
    assert "asked for by" not in text_of(at)
    healthy(at.button(key=f"cancel_{run_id}").click().run())
    assert store.runs.get(run_id).cancelling


def test_run_is_pressed_by_two_and_done_once(page: Open, store: Store) -> None:
    settings = {"bits": "5", "steps": "x"}
    first = page(**settings)
    healthy(first.button(key="run").click().run())
    (entry,) = store.runs.find(MODEL)
    assert entry.owner == ME and entry.run.state is State.QUEUED
    second = page(**settings)
    assert "run" not in {b.key for b in second.button}  # in its place stands how far it is
    assert second.button(key="stop").label == "Cancel"


def test_a_deleted_run_comes_back(page: Open, store: Store) -> None:
    runs = fill(store)
    at = page(run=runs[0].id)
    healthy(at.button(key="delete_run").click().run())
    assert runs[0].id not in [e.run.id for e in store.runs.find(MODEL)]
    assert "The run was deleted." in text_of(at)
    healthy(at.button(key="undo").click().run())
    assert runs[0].id in [e.run.id for e in store.runs.find(MODEL)]
    assert at.query_params["run"] == runs[0].id
    assert "The run was deleted." not in text_of(at)


def test_a_name_is_seen_everywhere(page: Open, store: Store) -> None:
    run = fill(store)[0]
    at = page(run=run.id)
    healthy(at.text_input(key="run_name").set_value("for the phone").run())
    assert store.runs.get(run.id).title == "for the phone"
    assert "**for the phone**" in text_of(at)
    assert "for the phone" in list(at.dataframe(key="runs").value["name"])


def test_a_name_is_shown_as_it_was_written(page: Open, store: Store) -> None:
    run = fill(store)[0]
    store.runs.rename(run.id, "[x](http://a) *b* <i>")
    at = page(run=run.id)
    assert "**\\[x\\]\\(http\\:\\/\\/a\\) \\*b\\* \\<i\\>**" in text_of(at)


def test_pinned_runs_are_first_and_hidden_ones_are_out_of_sight(page: Open, store: Store) -> None:
    runs = fill(store)
    at = page(run=runs[0].id)
    healthy(at.button(key="pin_run").click().run())
    names = list(at.dataframe(key="runs").value["name"])
    assert names[0].startswith("\N{PUSHPIN}") and not names[1].startswith("\N{PUSHPIN}")
    healthy(at.button(key="hide_run").click().run())
    assert len(at.dataframe(key="runs").value) == len(names) - 1
    healthy(at.toggle(key="show_hidden").set_value(True).run())
    assert len(at.dataframe(key="runs").value) == len(names)


def test_mine_are_those_that_i_asked_for(page: Open, store: Store) -> None:
    for owner, bits in ((ME, 4), (OTHER, 5), (OTHER, 6)):
        store.runs.add(done(recipe(bits=bits)), "cpu", owner)
    at = page()
    assert len(at.dataframe(key="runs").value) == 3
    healthy(at.segmented_control(key="whose").set_value("Mine").run())
    assert list(at.dataframe(key="runs").value["name"]) == ["4 bit"]


def test_a_person_has_a_name_for_others(page: Open, store: Store) -> None:
    healthy(fill(store) and page().text_input(key="own_name").set_value(" Ada  L ").run())
    assert people.name_of(store, ME) == "Ada L"
    assert people.name_of(store, OTHER) == ""


@given(st.text())
def test_only_ids_that_the_server_gave_are_persons(value: str) -> None:
    person = people.person_of({people.COOKIE: value})
    assert person in ("", value)
    assert not person or (len(person) == 16 and set(person) <= set("0123456789abcdef"))
