"""Training in a real browser: watched while it goes on, stopped, kept, measured, and compared."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.serve import Dashboard
from tests.browser.steps import choose, in_url, press_run, quickest, wait_for, wait_until_measured
from tests.dashboard.runs import curve, done, recipe

pytestmark = pytest.mark.timeout(600)
TRAINING = "&bits=4&temperature=4&images=2000"


@pytest.mark.slow
def test_watch_training_stop_and_keep(page: Page, served: Dashboard) -> None:
    page.goto(f"/?model={quickest().id}{TRAINING}&epochs=100")
    run_id = press_run(page)
    active = page.locator(f".st-key-active_{run_id}")
    expect(active).to_contain_text("images per second", timeout=120_000)
    for figure in ("loss", "hard loss (labels)", "soft loss (original)", "learning rate"):
        expect(active).to_contain_text(figure)
    expect(active).to_contain_text(re.compile(r"validation, [\d.]+ to [\d.]+"))
    expect(active).to_contain_text(re.compile(r"about .+ left"))
    lines = page.locator(f".st-key-live_{run_id} .js-plotly-plot .scatterlayer .trace")
    expect(lines.first).to_be_visible()
    before = active.inner_text()
    wait_for(lambda: active.inner_text() != before, 20)

    active.get_by_role("button", name="Stop and keep").click()
    wait_until_measured(served, run_id)
    run = served.store.runs.get(run_id).run
    assert run.stopped_early
    assert run.compressed is not None
    (curve,) = served.store.curves.get(run_id)
    assert 0 < curve.points[-1].epoch < curve.epochs == 100

    expect(page.locator(".st-key-cards")).to_contain_text("smaller")
    badge = page.locator(".stMarkdownBadge").filter(has_text="stopped early")
    expect(badge).to_be_visible()
    page.get_by_role("tab", name="Training").click()
    learned = page.locator(".st-key-learned")
    expect(learned).to_contain_text("Validation accuracy")
    expect(learned).to_contain_text(re.compile(r"It was stopped at epoch [\d.]+ of 100\."))
    expect(learned.locator(".js-plotly-plot")).to_have_count(3)


@pytest.mark.slow
def test_two_trainings_beside_each_other(page: Page, served: Dashboard) -> None:
    model = quickest().id
    for alpha, top in ((0.5, 0.9), (1.0, 0.91)):
        run = done(recipe(bits=4, temperature=2.0, alpha=alpha), top, model=model)
        served.store.runs.add(run)
        served.store.curves.put(run.id, curve((0.5, 0.85, top)))
    first, second = (e.run.id for e in served.store.runs.find(model)[-2:])
    page.goto(f"/?model={model}&run={second}&tab=Training")

    learned = page.locator(".st-key-learned")
    expect(learned).to_contain_text("Validation accuracy")
    choose(page, "compare", re.compile(first[:6]))
    wait_for(lambda: in_url(page, "compare") == first, 20)
    expect(learned).to_contain_text("Of these 2 runs")
    page.reload()
    expect(learned).to_contain_text("Of these 2 runs")
    expect(learned.locator(".st-key-curve_accuracy")).to_contain_text("alpha 0.5")
