"""What is seen and pressed without scrolling, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from compression.runs.results import ACTIVE
from dashboard.state.url import ORIGINAL
from tests.browser.serve import Dashboard
from tests.browser.steps import points, run_in_url, wait_for
from tests.dashboard.runs import done, recipe

MODEL = "fashion-mnist/squeezenet1_1"
pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1024, 768)])
def test_the_first_screen_has_the_run_button_and_the_whole_plot(
    page: Page, served: Dashboard, width: int, height: int
) -> None:
    served.store.runs.add(done(recipe(bits=4), model=MODEL))
    page.set_viewport_size({"width": width, "height": height})
    page.goto(f"/?model={MODEL}")
    expect(page.locator(".st-key-trade_off .xtitle")).to_be_in_viewport(ratio=1)
    expect(page.locator(".st-key-run button")).to_be_in_viewport(ratio=1)
    page.locator(".st-key-finer summary").first.click()
    expect(page.locator(".st-key-finer").get_by_role("tab").first).to_be_visible()
    expect(page.locator(".st-key-run button")).to_be_in_viewport(ratio=1)


@pytest.mark.slow
def test_the_star_is_clicked_and_the_chart_stays_in_its_place(
    page: Page, served: Dashboard
) -> None:
    run = done(recipe(bits=8, sparsity=0.3), model=MODEL)
    served.store.runs.add(run)
    page.goto(f"/?model={MODEL}&run={run.id}")
    chart = page.locator(".st-key-trade_off .js-plotly-plot")
    star = chart.locator(".points path[d*='L']").first
    expect(star).to_be_visible()
    before = chart.bounding_box()
    star.click(force=True)
    wait_for(lambda: run_in_url(page) == ORIGINAL, 20)
    expect(page.get_by_text("The original", exact=True)).to_be_visible()
    assert chart.bounding_box() == before
    points(page).first.click(force=True)
    wait_for(lambda: run_in_url(page) != ORIGINAL, 20)
    expect(page.locator(".st-key-cards")).to_contain_text("smaller")
    assert chart.bounding_box() == before


@pytest.mark.slow
def test_a_double_click_queues_one_run_and_cancels_none(page: Page, served: Dashboard) -> None:
    page.goto(f"/?model={MODEL}&seed=78")
    expect(page.locator(".st-key-run button")).to_be_visible()
    before = len(served.store.runs.find(MODEL))
    page.locator(".st-key-run button").dblclick()
    expect(page.locator(".st-key-stop button")).to_be_in_viewport(ratio=1)
    (entry,) = served.store.runs.find(MODEL)[before:]
    assert entry.run.state in ACTIVE and not entry.cancelling
    served.store.jobs.cancel(entry.run.id)


@pytest.mark.slow
def test_the_legend_stays_over_the_plot_when_a_narrow_window_becomes_wide(
    page: Page, served: Dashboard
) -> None:
    for bits, top1 in ((8, 0.918), (4, 0.91), (2, 0.1)):  # with a legend of three entries
        served.store.runs.add(done(recipe(bits=bits), top1, 10**6 * bits, model=MODEL))
    page.goto(f"/?model={MODEL}")
    legend = page.locator(".st-key-trade_off .legend")
    expect(legend).to_be_visible()
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(3000)  # until it is drawn anew
        assert above_plot(page)


def above_plot(page: Page) -> bool:
    """Whether the legend of the chart ends where the plot begins, or before."""
    legend = page.locator(".st-key-trade_off .legend").bounding_box()
    plot = page.locator(".st-key-trade_off .nsewdrag").first.bounding_box()
    return bool(legend and plot and legend["y"] + legend["height"] <= plot["y"] + 1)
