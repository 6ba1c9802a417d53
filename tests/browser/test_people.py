"""Several people at one dashboard: nobody's page, files or runs are changed by anybody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from compression.runs.results import Run, State
from tests.browser.conftest import person_at, watched, watched_page
from tests.browser.serve import CHROMIUM_FLAGS, Dashboard, dashboard, find_chromium
from tests.browser.steps import (
    in_url,
    points,
    press_run,
    quickest,
    run_in_url,
    state_of,
    wait_for,
)
from tests.dashboard.runs import done, recipe

pytestmark = pytest.mark.timeout(600)
# Long, and nothing is trained that could be kept.
SLOW = "model=fashion-mnist/resnet18&rounding=reconstruct"
LIMIT = 2
PUBLIC = "compress.example.org"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard as for a class: with an admin, and a limit for each person."""
    options = ("--admin", "--runs-per-person", str(LIMIT), "--public-host", PUBLIC)
    with dashboard(tmp_path_factory.mktemp("class"), options=options) as up:
        yield up


@pytest.fixture(scope="module")
def people(browser: Browser, shared: Dashboard) -> Iterator[tuple[BrowserContext, BrowserContext]]:
    """The browsers of two people."""
    with person_at(browser, shared.url) as first, person_at(browser, shared.url) as second:
        yield first, second


@pytest.fixture
def ada(people: tuple[BrowserContext, BrowserContext]) -> Iterator[Page]:
    with watched(people[0]) as page:
        yield page


@pytest.fixture
def grace(people: tuple[BrowserContext, BrowserContext]) -> Iterator[Page]:
    with watched(people[1]) as page:
        yield page


def measured(shared: Dashboard, bits: int, sparsity: float) -> Run:
    """A finished run of the quickest model."""
    run = done(recipe(bits=bits, sparsity=sparsity), model=quickest().id)
    shared.store.runs.add(run)
    return run


def shows(page: Page, run: Run) -> None:
    """The page has this run selected."""
    expect(page.get_by_text(f"Run {run.id}")).to_be_visible()
    assert run_in_url(page) == run.id


def set_bits(page: Page, bits: int) -> None:
    slider = page.locator(".st-key-bits").get_by_role("slider")
    slider.focus()
    while (now := int(slider.get_attribute("aria-valuenow") or slider.input_value())) != bits:
        page.keyboard.press("ArrowRight" if now < bits else "ArrowLeft")


@pytest.mark.slow
def test_what_one_person_does_leaves_the_page_of_the_other_as_it_was(
    ada: Page, grace: Page, shared: Dashboard
) -> None:
    first, second = measured(shared, 8, 0.31), measured(shared, 7, 0.32)
    model = quickest().id
    ada.goto(f"/?model={model}&run={first.id}&bits=5&y=accuracy")
    shows(ada, first)
    before = ada.evaluate("location.search")

    grace.goto(before)  # the address that Ada sent
    shows(grace, first)
    points(grace).nth(1).click(force=True)
    wait_for(lambda: run_in_url(grace) == second.id, 20)
    shows(grace, second)
    grace.go_back()
    shows(grace, first)
    grace.go_forward()
    shows(grace, second)
    set_bits(grace, 3)
    grace.get_by_role("tab", name="Size and speed").click()
    wait_for(lambda: in_url(grace, "tab") == "Size and speed", 20)
    theirs = grace.evaluate("location.search")

    popup = ada.context.new_page()  # and the one that Grace sent back, beside Ada's own
    popup.goto(theirs)
    expect(popup.get_by_role("tab", name="Size and speed")).to_have_attribute(
        "aria-selected", "true"
    )
    assert run_in_url(popup) == second.id and in_url(popup, "bits") == "3"

    newer = measured(shared, 6, 0.33)  # a run of somebody ends meanwhile
    expect(points(ada)).to_have_count(len(shared.store.runs.find(model)) + 2)
    assert ada.evaluate("location.search") == before
    shows(ada, first)
    ada.reload()
    shows(ada, first)
    assert in_url(ada, "bits") == "5" and in_url(ada, "tab") == ""
    assert newer.id not in ada.evaluate("location.search")


def files(page: Page, run: Run) -> Locator:
    """The files of a run, on a page that is opened for it."""
    page.goto(f"/?model={run.model}&run={run.id}&tab=Download")
    section = page.locator(".st-key-details")
    expect(section.locator("[class*=_packed] button")).to_be_visible()
    return section


@pytest.mark.slow
def test_everybody_downloads_the_file_of_the_run_on_their_own_page(
    ada: Page, grace: Page, shared: Dashboard, tmp_path: Path
) -> None:
    runs = {ada: measured(shared, 8, 0.41), grace: measured(shared, 7, 0.42)}
    for run in runs.values():
        shared.store.files.put(run.id, f"the file of {run.id}".encode())
    sections = {page: files(page, run) for page, run in runs.items()}
    for page, run in runs.items():
        with page.expect_download() as download:
            sections[page].locator(".st-key-download_packed button").click()
        download.value.save_as(tmp_path / run.id)
        assert (tmp_path / run.id).read_text() == f"the file of {run.id}"


def name(page: Page, text: str) -> None:
    """Say who one is."""
    page.locator(".st-key-you button").click()
    page.get_by_role("textbox", name="Your name").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".st-key-you button")).to_contain_text(text)
    page.keyboard.press("Escape")


def cancel_button(page: Page, run_id: str) -> Locator:
    # with a help text, there is one for narrow windows besides
    return page.locator(f".st-key-cancel_{run_id} button").first


@pytest.mark.slow
def test_a_class_shares_a_queue_and_only_owner_and_admin_cancel(
    ada: Page, grace: Page, browser: Browser, shared: Dashboard
) -> None:
    ada.goto(f"/?{SLOW}&bits=3")
    name(ada, "Ada")
    adas = press_run(ada)
    grace.goto(f"/?{SLOW}&bits=3")  # the very same settings: her run, and her Cancel
    expect(cancel_button(grace, adas)).to_be_disabled()
    expect(grace.locator(".st-key-stop button").first).to_be_disabled()
    expect(grace.locator(f".st-key-active_{adas}")).to_contain_text("asked for by Ada")
    wait_for(lambda: state_of(shared, adas) is State.RUNNING)

    graces = []
    for bits in (4, 5):
        set_bits(grace, bits)
        graces.append(press_run(grace))
    set_bits(grace, 6)
    grace.locator(".st-key-run button").click()
    refused = f"You have {LIMIT} runs waiting; the limit here is {LIMIT}. Cancel one or wait."
    expect(grace.locator(".st-key-act").get_by_text(refused)).to_be_visible()
    assert len(shared.store.runs.find(states=(State.QUEUED,))) == LIMIT

    ada.goto("/?model=" + quickest().id)  # the queue is of every model
    queue = ada.locator(".st-key-queue")
    expect(queue).to_contain_text("Queue: 1 running, 2 waiting.")
    queue.get_by_text("Show the queue").click()
    expect(queue).to_contain_text("resnet18 (Fashion-MNIST)")
    expect(queue.locator("[data-testid=stDataFrame]")).to_have_count(1)
    expect(queue.locator("[data-testid=stProgress]")).to_be_visible()

    cancel_button(grace, graces[0]).click()
    wait_for(lambda: state_of(shared, graces[0]) is State.CANCELLED, 60)
    assert state_of(shared, adas) is State.RUNNING
    assert state_of(shared, graces[1]) is State.QUEUED
    expect(queue).to_contain_text("Queue: 1 running, 1 waiting.")
    expect(queue.locator("[data-testid=stDataFrame]")).to_have_count(1)  # it stays open

    (link,) = re.findall(r"^For the admin alone: (\S+)$", shared.log.read_text(), re.MULTILINE)
    with watched_page(browser, shared.url) as admin:
        admin.goto(link.removeprefix(f"https://{PUBLIC}"))
        assert "token" not in admin.url
        admin.locator(".st-key-you button").click()
        expect(admin.get_by_text("You are the admin")).to_be_visible()
        admin.goto("/?model=fashion-mnist/resnet18")
        cancel_button(admin, adas).click()
        wait_for(lambda: state_of(shared, adas) is State.CANCELLED, 60)
        cancel_button(admin, graces[1]).click()
        wait_for(lambda: state_of(shared, graces[1]) is State.CANCELLED, 60)


@pytest.mark.slow
def test_a_link_to_ones_own_runs_shows_the_same_to_everybody(
    ada: Page, grace: Page, shared: Dashboard
) -> None:
    ada.goto("/")
    expect(ada.locator(".st-key-run button")).to_be_visible()
    (cookie,) = (c for c in ada.context.cookies() if c["name"] == "compression_person")
    model = "fashion-mnist/mobilenet_v2"
    theirs = done(recipe(bits=8, sparsity=0.51), model=model)
    shared.store.runs.add(theirs, owner=cookie["value"])
    shared.store.runs.add(done(recipe(bits=7, sparsity=0.52), model=model), owner="f" * 16)
    ada.goto(f"/?model={model}&run={theirs.id}")
    expect(points(ada)).to_have_count(4)  # both runs, the original, the ring round the selected one
    ada.locator(".st-key-whose").get_by_text("Mine").click()
    expect(points(ada)).to_have_count(3)
    wait_for(lambda: in_url(ada, "whose") != "", 20)  # the address is written after the chart
    address = ada.evaluate("location.search")
    assert cookie["value"] not in address

    grace.goto(address)
    expect(points(grace)).to_have_count(3)
    grace.locator(".st-key-whose").get_by_text("All runs").click()
    expect(points(grace)).to_have_count(4)
    wait_for(lambda: in_url(grace, "whose") == "", 20)


@pytest.mark.slow
def test_the_page_answers_to_its_public_name_and_to_no_other(
    browser: Browser, shared: Dashboard
) -> None:
    here = "--host-resolver-rules=MAP * 127.0.0.1"
    chromium = browser.browser_type.launch(
        executable_path=find_chromium(), args=[*CHROMIUM_FLAGS, here]
    )
    page = chromium.new_page()
    port = shared.url.rpartition(":")[2]
    page.goto(f"http://{PUBLIC}:{port}/?model={quickest().id}")
    expect(page.locator(".st-key-run button")).to_be_visible()  # by the websocket
    response = page.goto(f"http://other.example.org:{port}/")
    assert response is not None and response.status == 400
    chromium.close()
