"""The main job in a real browser, on real models, with real workers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Locator, Page, expect

from compression.catalogue import Card, cards
from compression.run import State
from tests.browser.serve import Dashboard, memory_map

pytestmark = pytest.mark.timeout(600)
RUN_SECONDS = 200.0
LONG = "&temperature=4&epochs=100"


def quickest() -> Card:
    """The bundled model with the least work in it."""
    return min((c for c in cards().values() if c.bundled), key=lambda c: c.macs or 0)


def wait_for(what: Callable[[], bool], seconds: float = RUN_SECONDS) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.1)


def state_of(served: Dashboard, run_id: str) -> State:
    return served.store.get(run_id).run.state


def run_in_url(page: Page) -> str:
    # asked of the page itself: playwright's own record waits for events to be read
    return parse_qs(str(page.evaluate("location.search")).lstrip("?")).get("run", [""])[0]


def points(page: Page) -> Locator:
    return page.locator(".st-key-trade_off .js-plotly-plot .scatterlayer .points path")


def press_run(page: Page) -> str:
    """Press Run and give the id of the new run."""
    before = run_in_url(page)
    page.locator(".st-key-run button").click()
    wait_for(lambda: run_in_url(page) not in ("", before), 20)
    return run_in_url(page)


def wait_until_measured(served: Dashboard, run_id: str) -> None:
    wait_for(lambda: state_of(served, run_id) not in (State.QUEUED, State.RUNNING))
    entry = served.store.get(run_id)
    assert entry.run.state is State.DONE, entry.run.notes


def test_pick_set_run_watch_click_and_reload(page: Page, served: Dashboard) -> None:
    model = quickest()
    page.goto("/")
    box = page.locator(".st-key-model").get_by_role("combobox")
    box.click()
    box.fill(model.title)
    page.get_by_role("option", name=model.title, exact=True).click()
    expect(page.get_by_text("Nothing measured for this model yet")).to_be_visible()

    slider = page.locator(".st-key-bits").get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text(re.compile(r"in 5 bits\."))).to_be_visible()
    first = press_run(page)
    progress = page.locator(f".st-key-active_{first} [data-testid=stProgress]")
    expect(progress).to_be_visible()
    expect(progress).to_contain_text(re.compile(r"· \d+ %"), timeout=60_000)
    wait_until_measured(served, first)
    expect(page.locator(".st-key-cards")).to_contain_text("smaller")
    expect(points(page)).to_have_count(3)  # the run, the original, the ring round the run

    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text(re.compile(r"in 6 bits\."))).to_be_visible()
    second = press_run(page)
    wait_until_measured(served, second)
    expect(points(page)).to_have_count(4)

    # runs are drawn oldest first
    points(page).first.click(force=True)
    wait_for(lambda: run_in_url(page) == first, 10)
    expect(page.get_by_text(f"Run {first}")).to_be_visible()
    page.reload()
    expect(page.get_by_text(f"Run {first}")).to_be_visible()
    expect(page.get_by_text(re.compile(r"in 6 bits\."))).to_be_visible()
    assert run_in_url(page) == first


def pressed(page: Page, key: str) -> Locator:
    """The chosen segment of a segmented control."""
    return page.locator(f".st-key-{key} [data-testid*=Active], .st-key-{key} [aria-checked=true]")


def in_url(page: Page, name: str) -> str:
    return parse_qs(str(page.evaluate("location.search")).lstrip("?")).get(name, [""])[0]


def test_choose_a_method_and_change_it_by_hand(page: Page) -> None:
    page.goto(f"/?model={quickest().id}")
    method = page.locator(".st-key-method")
    page.locator(".st-key-amount").get_by_text("Sparsity", exact=True).click()
    expect(page.locator(".st-key-sparsity").get_by_role("slider")).to_be_visible()
    method.get_by_text("Better", exact=True).click()
    wait_for(lambda: in_url(page, "rounding") != "", 20)
    chosen = page.evaluate("location.search")

    method.get_by_text("Custom", exact=True).click()
    score = page.locator(".st-key-score").get_by_role("combobox")
    expect(score).to_be_visible()
    assert page.evaluate("location.search") == chosen
    score.click()
    page.get_by_role("option", name="Random, as a control").click()
    wait_for(lambda: in_url(page, "score") == "random", 20)
    page.reload()
    expect(pressed(page, "method").get_by_text("Custom")).to_be_visible()

    page.locator(".st-key-finer_prune summary").click()
    page.locator(".st-key-pattern").get_by_role("combobox").click()
    page.get_by_role("option", name="2 of every 4 in a row").click()
    expect(page.get_by_text("Of every 4 weights in a row, 2 stay")).to_be_visible()
    expect(page.locator(".st-key-sparsity")).to_have_count(0)
    assert in_url(page, "pattern") == "2:4"


def test_cancel(page: Page, served: Dashboard) -> None:
    page.goto(f"/?model={quickest().id}&bits=8{LONG}")
    run_id = press_run(page)
    wait_for(lambda: state_of(served, run_id) is State.RUNNING)
    page.locator(f".st-key-cancel_{run_id} button").click()
    wait_for(lambda: state_of(served, run_id) is State.CANCELLED, 60)
    expect(page.get_by_text("This run was cancelled")).to_be_visible()


def test_a_killed_worker_fails_its_run_only(page: Page, served: Dashboard) -> None:
    page.goto(f"/?model={quickest().id}&bits=8{LONG}")
    run_id = press_run(page)
    wait_for(lambda: served.store.get(run_id).progress is not None)
    for pid in served.workers():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: state_of(served, run_id) is State.FAILED, 60)
    expect(page.get_by_text("This run failed.")).to_be_visible()
    reason = served.store.get(run_id).run.notes[-1]
    expect(page.get_by_text(reason[:40]).first).to_be_visible()

    page.goto(f"/?model={quickest().id}&bits=7")
    again = press_run(page)
    wait_until_measured(served, again)
    expect(page.locator(".st-key-cards")).to_contain_text("smaller")


def test_page_process_has_no_torch(page: Page, served: Dashboard) -> None:
    page.goto("/")
    expect(page.locator(".st-key-run button")).to_be_visible()
    assert served.health() == {"status": "ok", "runner": True, "torch": False}
    assert "libtorch" not in memory_map(served.process.pid)


def test_a_run_is_seen_in_every_tab(page: Page, served: Dashboard) -> None:
    model = quickest().id
    page.goto(f"/?model={model}&bits=8{LONG}")
    other = page.context.new_page()
    other.goto(f"/?model={model}")
    expect(other.locator(".st-key-run button")).to_be_visible()
    run_id = press_run(page)
    expect(other.locator(f".st-key-active_{run_id}")).to_be_visible()
    other.locator(f".st-key-cancel_{run_id} button").click()
    wait_for(lambda: state_of(served, run_id) is State.CANCELLED, 60)


def test_csv_holds_every_run(page: Page, served: Dashboard, tmp_path: Path) -> None:
    model = quickest().id
    page.goto(f"/?model={model}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "runs.csv")
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert lines[0].startswith("run,state,recipe,method,accuracy_percent")
    assert len(lines) == 1 + len(served.store.entries(model))


@pytest.mark.parametrize("header", ["content-security-policy", "x-frame-options"])
def test_pages_carry_security_headers(page: Page, header: str) -> None:
    answer = page.goto("/")
    assert answer is not None
    assert header in answer.headers
