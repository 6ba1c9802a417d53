"""The page on paper: light whatever the theme, and nothing cut."""

from __future__ import annotations

import io
import re

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.serve import Dashboard
from tests.dashboard.runs import done, recipe

MODEL = "fashion-mnist/squeezenet1_1"
pytestmark = pytest.mark.timeout(600)
_DARK_BY_HAND = "localStorage.setItem('stActiveTheme-/-v2', JSON.stringify('Dark'))"
_POINTS_PER_PIXEL = 0.75


@pytest.fixture
def printed(browser: Browser, served: Dashboard) -> str:
    run = done(recipe(bits=4), model=MODEL)
    served.store.runs.add(run)
    return f"{served.url}/?model={run.model}&run={run.id}"


def open_page(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator(".st-key-details")).to_be_visible()
    expect(page.locator(".st-key-trade_off .xtitle")).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize("dark_by", ["nobody", "system", "hand"])
def test_paper_is_light_and_holds_the_whole_page(
    browser: Browser, printed: str, dark_by: str
) -> None:
    scheme = "dark" if dark_by == "system" else "light"
    with browser.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        if dark_by == "hand":
            page.add_init_script(_DARK_BY_HAND)
        open_page(page, printed)
        with Image.open(io.BytesIO(page.screenshot())) as screen:
            assert (brightness(screen) < 60) is (dark_by != "nobody")
        page.emulate_media(media="print")
        with Image.open(io.BytesIO(page.screenshot(full_page=True))) as paper:
            assert brightness(paper) > 230
            assert paper.convert("L").getpixel((2, paper.height - 2)) == 255  # no tint
            last = page.locator(".st-key-details").bounding_box()
            assert last is not None and last["y"] + last["height"] <= paper.height
        expect(page.locator(".st-key-run button")).to_be_hidden()
        expect(page.get_by_role("button", name="Present")).to_be_hidden()


def brightness(picture: Image.Image) -> float:
    """The mean of all pixels, from 0 for black to 255 for white."""
    (mean,) = picture.convert("L").resize((1, 1), Image.Resampling.BOX).getdata()
    return float(mean)


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1024, 1920])
def test_paper_is_as_wide_as_the_page(browser: Browser, printed: str, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}) as context:
        page = context.new_page()
        open_page(page, printed)
        main = page.locator(".st-key-main").bounding_box()
        assert main is not None
        paper = page.pdf(prefer_css_page_size=True)
        sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", paper)
        assert len(sizes) > 1  # more than the first screen
        for wide, high in sizes:
            assert float(wide) >= _POINTS_PER_PIXEL * main["width"]
            assert float(high) == pytest.approx(2**0.5 * float(wide), rel=0.01)
