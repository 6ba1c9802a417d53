"""Runs have names and owners: what a person may do with their own and with others'."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from compression.catalogue.cards import cards
from compression.runs.results import State
from compression.runs.store import Store, new_run
from dashboard.state import actions, people
from dashboard.state.rules import Rules
from dashboard.state.url import ORIGINAL
from dashboard.views import people as views
from dashboard.views.runs_table import table_key
from tests.dashboard.page import Open, healthy, runs_table, text_of, unfolded
from tests.dashboard.runs import MODEL, done, fill, recipe

ME, OTHER, THIRD = "a" * 16, "b" * 16, "c" * 16
OTHER_MODEL = "fashion-mnist/squeezenet1_1"


@pytest.fixture(autouse=True)
def _me(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "person", lambda: ME)


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
    assert "for the phone" in list(runs_table(at)["name"])


def test_a_name_is_shown_as_it_was_written(page: Open, store: Store) -> None:
    run = fill(store)[0]
    store.runs.rename(run.id, "[x](http://a) *b* <i>")
    at = page(run=run.id)
    assert "**\\[x\\]\\(http\\:\\/\\/a\\) \\*b\\* \\<i\\>**" in text_of(at)


def test_pinned_runs_are_first_and_hidden_ones_are_out_of_sight(page: Open, store: Store) -> None:
    runs = fill(store)
    at = page(run=runs[0].id)
    healthy(at.button(key="pin_run").click().run())
    names = list(runs_table(at)["name"])
    assert names[0].startswith("\N{PUSHPIN}") and not names[1].startswith("\N{PUSHPIN}")
    healthy(at.button(key="hide_run").click().run())
    assert len(runs_table(at)) == len(names) - 1
    healthy(at.toggle(key="show_hidden").set_value(True).run())
    assert len(runs_table(at)) == len(names)


# Whose runs are shown


def asked(store: Store, *owners: str) -> list[str]:
    """The ids of finished runs of these owners, which differ in their bits from 3 on."""
    runs = [done(recipe(bits=bits)) for bits in range(3, 3 + len(owners))]
    for run, owner in zip(runs, owners, strict=True):
        store.runs.add(run, "cpu", owner)
    return [run.id for run in runs]


def in_table(at: AppTest) -> set[str]:
    return set(runs_table(at)["run"])


def in_chart(at: AppTest) -> set[str]:
    """The runs that the chart has a point of."""
    (chart,) = (e for e in at.main if e.type == "plotly_chart")
    figure = json.loads(chart.proto.spec)
    data = [row for trace in figure["data"] for row in trace.get("customdata") or ()]
    return {str(row[0]) for row in data} - {"", ORIGINAL}


def test_everybodys_runs_are_shown_until_mine_are_chosen(page: Open, store: Store) -> None:
    mine, *others = asked(store, ME, OTHER, THIRD, "")
    at = page(run=mine)
    assert in_table(at) == in_chart(at) == {mine, *others}
    healthy(at.segmented_control(key="whose").set_value(people.public_id(ME)).run())
    assert in_table(at) == in_chart(at) == {mine}
    healthy(at.segmented_control(key="whose").set_value("").run())
    assert in_table(at) == {mine, *others}
    assert "whose" not in at.query_params


def test_a_link_shows_the_same_persons_runs_to_everybody(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs, _ = asked(store, ME, OTHER, THIRD)
    people.keep_name(store, OTHER, "Ada")
    monkeypatch.setattr(actions, "person", lambda: OTHER)
    sender = page()
    healthy(sender.segmented_control(key="whose").set_value(people.public_id(OTHER)).run())
    address = {name: sender.query_params[name] for name in ("model", "run", "whose")}
    assert OTHER not in address.values()  # whoever knows the cookie could act as them

    monkeypatch.setattr(actions, "person", lambda: ME)
    at = page(**address)
    assert in_table(at) == in_chart(at) == {theirs}
    assert at.segmented_control(key="whose").options == ["All runs", "Mine", "Ada"]
    healthy(at.segmented_control(key="whose").set_value(people.public_id(ME)).run())
    assert in_table(at) == {mine}


def test_a_link_to_nobodys_runs_shows_all_and_says_so(page: Open, store: Store) -> None:
    ids = asked(store, ME, OTHER)
    at = page(whose="me <b>")
    assert in_table(at) == {*ids}
    assert "whose: 'me <b>' is nobody" in text_of(at)


def test_who_has_no_result_is_told_so_and_sees_the_others_in_a_click(
    page: Open, store: Store
) -> None:
    (theirs,) = asked(store, OTHER)
    at = page(whose=people.public_id(ME))
    assert "You have no result for this model yet." in text_of(at)
    assert "Nothing measured for this model yet" not in text_of(at)
    assert not [d for d in at.dataframe if str(d.key).startswith("runs_")]
    healthy(at.button(key="show_all").click().run())
    assert in_table(at) == in_chart(at) == {theirs}


def test_the_selected_run_stays_selected_whoever_is_shown(page: Open, store: Store) -> None:
    mine, theirs = asked(store, ME, OTHER)
    at = page(run=theirs, whose=people.public_id(ME))
    assert in_table(at) == {mine}
    assert at.query_params["run"] == theirs


def test_where_all_runs_are_ones_own_there_is_nothing_to_choose(page: Open, store: Store) -> None:
    asked(store, ME, "")
    assert not [c for c in page().segmented_control if c.key == "whose"]


# Names


def test_a_name_is_shown_beside_the_runs_of_others(page: Open, store: Store) -> None:
    theirs, unnamed, mine = asked(store, OTHER, THIRD, ME)
    people.keep_name(store, OTHER, "*Ada*")
    people.keep_name(store, ME, "Me")
    at = page(run=theirs)
    assert "asked for by \\*Ada\\*" in text_of(at)
    table = runs_table(at).set_index("run")["asked_for_by"]
    guest = f"Guest {people.public_id(THIRD)[:4]}"
    assert [table[run] for run in (theirs, unnamed, mine)] == ["*Ada*", guest, "Me"]
    assert "asked for by" not in text_of(page(run=mine))


@pytest.mark.slow
def test_a_name_is_asked_for_only_where_there_are_others_or_may_be(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(store, ME, "")
    assert not [t for t in page().text_input if t.key == "own_name"]
    monkeypatch.setattr(views, "rules", lambda: Rules(shared=True))
    assert page().text_input(key="own_name").value == ""
    monkeypatch.setattr(views, "rules", Rules)
    asked(store, OTHER)
    assert page().text_input(key="own_name").value == ""


def test_nobody_is_asked_for_a_name_without_a_cookie_to_know_them_by(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(store, OTHER)
    monkeypatch.setattr(actions, "person", lambda: "")
    at = page()
    assert not [t for t in at.text_input if t.key == "own_name"]
    assert "Your browser keeps no cookies" in text_of(at)


def test_a_person_has_a_name_for_others(page: Open, store: Store) -> None:
    asked(store, OTHER)
    healthy(page().text_input(key="own_name").set_value(" Ada  L ").run())
    assert people.name_of(store, ME) == "Ada L"
    assert people.name_of(store, OTHER) == ""


# What only the owner or an admin may do, also by other means than the page's buttons


def forced(widget: Any) -> Any:
    """A disabled widget, to be used all the same: as by a program that speaks to the server."""
    assert widget.disabled
    widget.proto.disabled = False
    return widget


CHANGES = ("pin_run", "hide_run", "delete_run")


@pytest.mark.parametrize("key", CHANGES)
def test_a_disabled_button_that_is_pressed_all_the_same_changes_nothing(
    page: Open, store: Store, key: str
) -> None:
    (theirs,) = asked(store, OTHER)
    before, at = store.runs.get(theirs), page(run=theirs)
    healthy(forced(at.button(key=key)).click().run())
    assert store.runs.get(theirs) == before
    assert people.ONLY_ITS_OWNER in text_of(at)


def test_a_run_of_somebody_else_keeps_its_name(page: Open, store: Store) -> None:
    (theirs,) = asked(store, OTHER)
    at = page(run=theirs)
    healthy(forced(at.text_input(key="run_name")).set_value("mine now").run())
    assert store.runs.get(theirs).name == ""


@pytest.fixture
def admin_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """The server has an admin: this browser, or another."""

    def put(me: bool) -> None:
        visitor = people.Visitor(ME, admin=me, administered=True)
        monkeypatch.setattr(actions, "visitor", lambda: visitor)

    return put


def test_an_admin_changes_everybodys_runs(
    page: Open, store: Store, admin_is: Callable[[bool], None]
) -> None:
    (theirs,) = asked(store, OTHER)
    admin_is(True)
    at = page(run=theirs)
    assert "You are the admin" in text_of(at)
    healthy(at.text_input(key="run_name").set_value("a better name").run())
    healthy(at.button(key="hide_run").click().run())
    assert (store.runs.get(theirs).name, store.runs.get(theirs).hidden) == ("a better name", True)
    healthy(at.button(key="delete_run").click().run())
    assert theirs not in [e.run.id for e in store.runs.find()]


def test_where_there_is_an_admin_nobodys_runs_are_the_admins(
    page: Open, store: Store, admin_is: Callable[[bool], None]
) -> None:
    nobodys, mine = asked(store, "", ME)
    assert not page(run=nobodys).button(key="delete_run").disabled
    admin_is(False)
    assert page(run=nobodys).button(key="delete_run").disabled
    assert not page(run=mine).button(key="delete_run").disabled


# How many runs of one person may wait


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(actions, "rules", lambda: Rules(runs_per_person=most))


def waiting(store: Store, owner: str, count: int, model: str = OTHER_MODEL) -> list[str]:
    """The ids of runs of an owner that wait, of another model than the page shows."""
    runs = [new_run(model, "fashion-mnist", recipe(sparsity=0.1 + i / 100)) for i in range(count)]
    for run in runs:
        store.runs.add(run, "cpu", owner)
    return [run.id for run in runs]


def test_who_has_as_many_runs_waiting_as_allowed_is_told_so_plainly(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 5)
    waiting(store, ME, 5)
    waiting(store, OTHER, 9)
    at = page(bits="5", steps="x")
    healthy(at.button(key="run").click().run())
    says = "You have 5 runs waiting; the limit here is 5. Cancel one or wait."
    assert says in [e.value for e in at.error]
    assert not store.runs.find(MODEL)
    assert "Part of the URL" not in text_of(at)

    at.slider(key="bits").set_value(6)
    assert says not in text_of(healthy(at.run()))  # it was said of what was asked for before
    store.jobs.claim("runner")
    healthy(at.button(key="run").click().run())
    assert [e.owner for e in store.runs.find(MODEL)] == [ME]


def test_a_grid_of_temperatures_counts_as_what_it_is(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 5)
    at = unfolded(page(bits="4", temperature="4"))
    healthy(at.button(key="try_temperatures").click().run())
    (error,) = (e.value for e in at.error)
    assert re.fullmatch(
        r"These are \d+ runs, and you have 0 runs waiting; the limit here is 5\.", error
    )
    assert store.runs.find() == []


def test_no_limit_is_set_for_an_admin(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch, admin_is: Callable[[bool], None]
) -> None:
    limited(monkeypatch, 1)
    admin_is(True)
    waiting(store, ME, 3)
    healthy(page(bits="5", steps="x").button(key="run").click().run())
    assert len(store.runs.find(MODEL)) == 1


# The queue of everybody


def opened_queue(at: AppTest) -> AppTest:
    return healthy(at.toggle(key="show_queue").set_value(True).run())


def queue_line(at: AppTest) -> str | None:
    """What is said of the queue; None where it is not there."""
    lines = (str(e.value) for e in at.markdown)
    return next((line for line in lines if line.startswith("**Queue:**")), None)


def test_the_whole_queue_is_seen_with_owners_and_places(page: Open, store: Store) -> None:
    people.keep_name(store, OTHER, "Ada")
    theirs = waiting(store, OTHER, 2)
    mine = waiting(store, ME, 1, MODEL)
    store.jobs.claim("runner")
    at = opened_queue(page())
    assert queue_line(at) == ("**Queue:** 1 running, 2 waiting; your next run is number 2.")
    table = at.dataframe(key=table_key("queue", [theirs[1], *mine])).value
    assert list(table["place"]) == [1, 2]
    assert list(table["asked_for_by"]) == ["Ada", "you"]
    assert list(table["model"]) == [cards()[OTHER_MODEL].title, cards()[MODEL].title]
    assert list(table["page"]) == [
        "/?model=" + quote(store.runs.get(r).run.model, safe="") + f"&run={r}"
        for r in (theirs[1], *mine)
    ]
    assert "asked for by Ada" in text_of(at)  # of the run that is under way


def test_a_queue_of_one_run_that_is_seen_anyway_is_no_queue(page: Open, store: Store) -> None:
    assert queue_line(page()) is None
    waiting(store, OTHER, 1, MODEL)
    assert queue_line(page()) is None
    store.jobs.cancel(store.runs.find()[0].run.id)
    waiting(store, OTHER, 1)
    assert queue_line(page()) == "**Queue:** 1 waiting."


def ticked(at: AppTest, store: Store, run_ids: list[str], *rows: int) -> AppTest:
    """The page with rows of the queue ticked."""
    key = table_key("queue", run_ids)
    at.session_state[key] = {"selection": {"rows": [*rows], "columns": [], "cells": []}}
    return healthy(at.run())


def test_ones_own_runs_are_cancelled_from_the_queue_and_no_others(page: Open, store: Store) -> None:
    theirs, mine = waiting(store, OTHER, 1), waiting(store, ME, 2)
    at = ticked(opened_queue(page()), store, theirs + mine, 0, 1)
    button = at.button(key="cancel_chosen")
    assert button.label == "Cancel these 2 runs"
    healthy(forced(button).click().run())
    states = [store.runs.get(r).run.state for r in theirs + mine]
    assert states == [State.QUEUED] * 3
    at = ticked(at, store, theirs + mine, 1)
    assert at.button(key="cancel_chosen").label == "Cancel this run"
    healthy(at.button(key="cancel_chosen").click().run())
    states = [store.runs.get(r).run.state for r in theirs + mine]
    assert states == [State.QUEUED, State.CANCELLED, State.QUEUED]


def test_what_was_ticked_is_forgotten_when_the_queue_moves_on(page: Open, store: Store) -> None:
    mine = waiting(store, ME, 3)
    at = ticked(opened_queue(page()), store, mine, 0)
    assert at.button(key="cancel_chosen").label == "Cancel this run"
    store.jobs.claim("runner")
    healthy(at.run())
    assert "cancel_chosen" not in {b.key for b in at.button}


def test_cancelling_all_that_wait_spares_those_of_others_even_for_an_admin(
    page: Open, store: Store, admin_is: Callable[[bool], None]
) -> None:
    mine, theirs = (
        waiting(store, ME, 3, MODEL),
        [store_waiting(store, OTHER, bits) for bits in (3, 5)],
    )
    admin_is(True)
    at = page()
    button = at.button(key="cancel_waiting")
    assert button.label == "Cancel yours (2)"  # the first is listed by itself
    healthy(button.click().run())
    assert [store.runs.get(r).run.state for r in theirs] == [State.QUEUED] * 2
    assert [store.runs.get(r).run.state for r in mine[1:]] == [State.CANCELLED] * 2


def store_waiting(store: Store, owner: str, bits: int) -> str:
    run = new_run(MODEL, "fashion-mnist", recipe(bits=bits))
    store.runs.add(run, "cpu", owner)
    return run.id


@given(st.text())
def test_only_ids_that_the_server_gave_are_persons(value: str) -> None:
    person = people.person_of({people.COOKIE: value})
    assert person in ("", value)
    assert not person or (len(person) == 16 and set(person) <= set("0123456789abcdef"))
