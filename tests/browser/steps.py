"""What several browser tests do: start a run, wait, read the address."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from playwright.sync_api import Locator, Page
from playwright.sync_api import TimeoutError as TooLate

from compression.catalogue.cards import Card, cards
from compression.runs.results import State
from tests.browser.serve import Dashboard

RUN_SECONDS = 200.0


def quickest() -> Card:
    """The bundled model with the least work in it."""
    return min((c for c in cards().values() if c.bundled), key=lambda c: c.macs or 0)


def wait_for(what: Callable[[], bool], seconds: float = RUN_SECONDS) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.1)


def state_of(served: Dashboard, run_id: str) -> State:
    return served.store.runs.get(run_id).run.state


def run_in_url(page: Page) -> str:
    # asked of the page itself: playwright's own record waits for events to be read
    return parse_qs(str(page.evaluate("location.search")).lstrip("?")).get("run", [""])[0]


def points(page: Page) -> Locator:
    return page.locator(".st-key-trade_off .js-plotly-plot .scatterlayer .points path")


def press_run(page: Page) -> str:
    """Press Run and give the id of the new run."""
    # until it is drawn, a page may still select a run that is there
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    before = run_in_url(page)
    page.locator(".st-key-run button").click()
    wait_for(lambda: run_in_url(page) not in ("", before), 20)
    return run_in_url(page)


def wait_until_measured(served: Dashboard, run_id: str) -> None:
    wait_for(lambda: state_of(served, run_id) not in (State.QUEUED, State.RUNNING))
    entry = served.store.runs.get(run_id)
    assert entry.run.state is State.DONE, entry.run.notes


def in_url(page: Page, name: str) -> str:
    return parse_qs(str(page.evaluate("location.search")).lstrip("?")).get(name, [""])[0]


def choose(page: Page, key: str, option: str | re.Pattern[str]) -> None:
    """Pick an option of a select box, whose list closes if the page is drawn anew meanwhile."""

    def picked() -> bool:
        page.locator(f".st-key-{key}").get_by_role("combobox").click()
        try:
            page.get_by_role("option", name=option).click(timeout=5000)
        except TooLate:
            page.keyboard.press("Escape")
            return False
        return True

    wait_for(picked, 60)
