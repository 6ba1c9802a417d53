"""One Chromium and one dashboard for all browser tests; a watched page for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from compression.catalogue.examples import put_examples
from tests.browser.serve import CHROMIUM_FLAGS, Dashboard, dashboard, find_chromium

# The machine may be busy with other things.
expect.set_options(timeout=30_000)
_NOT_SENT = ("data", "blob", "about")
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a Chromium: skip and say what to install; on CI go on, and fail."""
    if find_chromium() or os.environ.get("CI"):
        return
    reason = "needs a Chromium: apt-get install chromium (or put Google Chrome on the PATH)"
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.fail("CI is set and there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    with dashboard(tmp_path_factory.mktemp("dashboard")) as up:
        put_examples(up.store)  # a store that a test has put runs in would get none
        yield up


@contextmanager
def watched_page(browser: Browser, url: str) -> Iterator[Page]:
    """A watched page of a browser of its own at that address, as another person has it."""
    with person_at(browser, url) as context, watched(context) as opened:
        yield opened


@contextmanager
def person_at(browser: Browser, url: str) -> Iterator[BrowserContext]:
    """A browser of a person's own; from the second page on it has the scripts in its cache."""
    context = browser.new_context(
        base_url=url,
        viewport={"width": 1440, "height": 1000},
        accept_downloads=True,
        # what moves while a test waits would be drawn by the cores that it waits for
        reduced_motion="reduce",
    )
    context.set_default_timeout(30_000)
    yield context
    context.close()


@contextmanager
def watched(context: BrowserContext) -> Iterator[Page]:
    """A page in it. A request to any other host, or an error in the console, fails."""
    abroad: list[str] = []
    errors: list[str] = []

    def watch(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in _NOT_SENT and parts.hostname != "127.0.0.1":
            abroad.append(request.url)

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error":
            errors.append(message.text)

    opened = context.new_page()
    context.on("request", watch)
    context.on("console", listen)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.remove_listener("request", watch)
    context.remove_listener("console", listen)
    for page in context.pages:
        page.close()
    assert abroad == []
    assert errors == []


@pytest.fixture(scope="session")
def person(browser: Browser, served: Dashboard) -> Iterator[BrowserContext]:
    """The one who looks at the dashboard that all tests share."""
    with person_at(browser, served.url) as context:
        yield context


@pytest.fixture
def page(person: BrowserContext) -> Iterator[Page]:
    """A page at the dashboard that all tests share."""
    with watched(person) as opened:
        yield opened
