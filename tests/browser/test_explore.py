"""The main job in a real browser, on real models, with real workers."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from compression.runs.results import State
from dashboard.state.stored import FIRST_MODEL
from tests.browser.serve import Dashboard, memory_map
from tests.browser.steps import (
    choose,
    in_url,
    points,
    press_run,
    quickest,
    run_in_url,
    state_of,
    wait_for,
    wait_until_measured,
)
from tests.dashboard.runs import done, recipe

TABS_TO_RUN = 10
pytestmark = pytest.mark.timeout(600)
# Long, and nothing is trained that could be kept.
SLOW = "model=fashion-mnist/resnet18&bits=3&rounding=reconstruct"


@pytest.mark.slow
def test_pick_set_run_watch_click_and_reload(page: Page, served: Dashboard) -> None:
    model = quickest()
    page.goto("/")
    box = page.locator(".st-key-model").get_by_role("combobox")
    box.click()
    box.fill(model.title.partition("_")[0])  # of several models, those with images come first
    expect(page.get_by_role("option").first).to_contain_text("(Fashion-MNIST)")
    box.fill(model.title)
    page.get_by_role("option", name=model.title, exact=True).click()
    expect(page.get_by_text("Nothing measured for this model yet")).to_be_visible()
    page.locator(".st-key-method").get_by_text("Fast", exact=True).click()

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
    served.store.runs.add(done(recipe(bits=6), model=model.id))  # of somebody else
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


@pytest.mark.slow
def test_choose_a_method_and_change_it_by_hand(page: Page) -> None:
    page.goto(f"/?model={quickest().id}")
    method = page.locator(".st-key-method")
    page.locator(".st-key-amount").get_by_text("Sparsity", exact=True).click()
    expect(page.locator(".st-key-sparsity").get_by_role("slider")).to_be_visible()
    method.get_by_text("Better", exact=True).click()
    wait_for(lambda: in_url(page, "rounding") != "", 20)
    chosen = page.evaluate("location.search")

    method.get_by_text("Custom", exact=True).click()
    expect(page.locator(".st-key-score").get_by_role("combobox")).to_be_visible()
    assert page.evaluate("location.search") == chosen
    choose(page, "score", "Random (control)")
    wait_for(lambda: in_url(page, "score") == "random", 20)
    page.reload()
    expect(pressed(page, "method").get_by_text("Custom")).to_be_visible()

    page.locator(".st-key-finer summary").first.click()
    choose(page, "pattern", "2:4 semi-structured")
    expect(page.get_by_text("Of every 4 weights in a row, 2 stay")).to_be_visible()
    expect(page.locator(".st-key-sparsity")).to_have_count(0)
    assert in_url(page, "pattern") == "2:4"


@pytest.mark.slow
def test_a_run_is_seen_in_every_tab_and_cancelled_from_any(page: Page, served: Dashboard) -> None:
    page.goto(f"/?{SLOW}")
    other = page.context.new_page()
    other.goto("/?model=fashion-mnist/resnet18")
    expect(other.locator(".st-key-run button")).to_be_visible()
    run_id = press_run(page)
    wait_for(lambda: state_of(served, run_id) is State.RUNNING)
    expect(other.locator(f".st-key-active_{run_id}")).to_be_visible()
    other.locator(f".st-key-cancel_{run_id} button").click()
    wait_for(lambda: state_of(served, run_id) is State.CANCELLED, 60)
    expect(page.get_by_text("This run was cancelled")).to_be_visible()


@pytest.mark.slow
def test_a_killed_worker_fails_its_run_and_the_page_says_why(page: Page, served: Dashboard) -> None:
    page.goto(f"/?{SLOW}")
    run_id = press_run(page)
    wait_for(lambda: served.store.runs.get(run_id).progress is not None)
    for pid in served.workers():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: state_of(served, run_id) is State.FAILED, 60)
    expect(page.get_by_text("This run failed.")).to_be_visible()
    reason = served.store.runs.get(run_id).run.notes[-1]
    expect(page.get_by_text(reason[:40]).first).to_be_visible()


@pytest.mark.slow
def test_page_process_has_no_torch(page: Page, served: Dashboard) -> None:
    page.goto("/")
    expect(page.locator(".st-key-run button")).to_be_visible()
    assert served.health() == {"status": "ok", "runner": True, "torch": False}
    assert "libtorch" not in memory_map(served.process.pid)


@pytest.mark.slow
def test_csv_holds_every_run(page: Page, served: Dashboard, tmp_path: Path) -> None:
    model = quickest().id
    served.store.runs.add(done(recipe(bits=4), model=model))
    page.goto(f"/?model={model}")
    page.locator(".st-key-runs [data-testid=stDataFrame]").hover()
    expect(page.locator(".st-key-runs [data-testid=stElementToolbar]")).to_be_visible()
    with page.expect_download() as download:  # the table's own tools do not cover it
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(tmp_path / "runs.csv")
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert lines[0].startswith("run,state,name,recipe,method,accuracy_percent")
    assert len(lines) == 1 + len(served.store.runs.find(model))


@pytest.mark.slow
def test_pages_carry_security_headers(page: Page) -> None:
    response = page.goto("/")
    assert response is not None
    assert {"content-security-policy", "x-frame-options"} <= response.headers.keys()


@pytest.mark.slow
def test_a_model_is_picked_from_the_table_and_what_was_seen_comes_back(
    page: Page, served: Dashboard
) -> None:
    model = quickest()
    served.store.runs.add(done(recipe(bits=4), model=model.id), "cpu")
    page.goto(f"/?model={model.id}&y=speedup")
    wait_for(lambda: run_in_url(page) != "", 30)
    run_id = run_in_url(page)
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_role("heading", name="Which model?")).to_be_visible()
    page.get_by_role("link", name="Explore").click()
    expect(page.locator(".st-key-trade_off")).to_be_visible()
    wait_for(lambda: (run_in_url(page), in_url(page, "y")) == (run_id, "speedup"), 20)

    page.get_by_role("link", name="Models").click()
    table = page.locator(".st-key-models canvas").first
    expect(table).to_be_visible()
    tick = {"x": 16, "y": 52}  # of the first row; what is clicked lies over the canvas
    table.click(position=tick, force=True)
    wait_for(lambda: in_url(page, "model") == FIRST_MODEL, 30)


@pytest.mark.slow
def test_a_picture_is_light_on_a_dark_page(
    browser: Browser, served: Dashboard, tmp_path: Path
) -> None:
    model = quickest()
    served.store.runs.add(done(recipe(bits=4), model=model.id))
    with browser.new_context(base_url=served.url, color_scheme="dark") as context:
        page = context.new_page()
        page.goto(f"/?model={model.id}")
        page.get_by_role("button", name="Picture").first.click()
        with page.expect_download() as download:
            page.get_by_role("button", name="Download PNG").click()
        assert download.value.suggested_filename.startswith("fashion-mnist-")
        download.value.save_as(tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        assert picture.size == (2560, 1440)
        assert picture.convert("L").getpixel((5, 5)) == 255


@pytest.mark.slow
def test_a_phone_has_the_result_first_and_settings_in_a_sheet(
    browser: Browser, served: Dashboard
) -> None:
    model = quickest()
    served.store.runs.add(done(recipe(bits=4), model=model.id))
    with browser.new_context(
        base_url=served.url, viewport={"width": 390, "height": 844}, has_touch=True
    ) as context:
        page = context.new_page()
        page.goto(f"/?model={model.id}")
        expect(page.locator(".st-key-cards")).to_be_visible()
        expect(page.locator(".st-key-run button")).to_be_hidden()
        page.locator(".st-key-sheet label").first.tap()
        expect(page.locator(".st-key-run button")).to_be_in_viewport()
        wide = "document.querySelector('[data-testid=stMain]').scrollWidth"
        assert page.evaluate(wide) <= 390
        plot = page.locator(".st-key-trade_off .nsewdrag").first.bounding_box()
        assert plot is not None and plot["width"] > 200


@pytest.mark.slow
def test_run_is_reached_and_pressed_by_keyboard(page: Page, served: Dashboard) -> None:
    model = quickest()
    page.goto(f"/?model={model.id}&seed=77")
    expect(page.locator(".st-key-run button")).to_be_visible()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    focus = "document.activeElement.closest('.st-key-run, .skip')?.textContent ?? ''"
    for _ in range(TABS_TO_RUN):
        page.keyboard.press("Tab")
        where = str(page.evaluate(focus))
        if where == "Skip to Run":
            page.keyboard.press("Enter")
        elif "Run" in where:
            break
    page.keyboard.press("Enter")
    wait_for(lambda: run_in_url(page) != "", 30)
    served.store.jobs.cancel(run_in_url(page))
