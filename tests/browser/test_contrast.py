"""Small print is dark enough to be read on a light page, and light enough on a dark one."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.serve import Dashboard
from tests.dashboard.runs import done, recipe

MODEL = "fashion-mnist/squeezenet1_1"
LEAST = 4.5  # WCAG 2.2, level AA
pytestmark = pytest.mark.timeout(600)
_COLOURS = """([selector, property]) => {
    const part = document.querySelector(selector), page = document.querySelector(".stApp");
    return [getComputedStyle(part)[property], getComputedStyle(page).backgroundColor];
}"""


def channels(text: str) -> list[float]:
    """Red, green and blue from 0 to 255, and opacity from 0 to 1."""
    found = [float(number) for number in re.findall(r"[\d.]+", text)]
    assert text.startswith("rgb") and len(found) in (3, 4), text
    return [*found[:3], found[3] if len(found) == 4 else 1.0]


def luminance(colour: list[float]) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (v / 255 for v in colour)
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(text: str, page: str) -> float:
    *behind, _ = channels(page)
    *ink, opacity = channels(text)
    seen = [opacity * i + (1 - opacity) * b for i, b in zip(ink, behind, strict=True)]
    dark, light = sorted((luminance(seen), luminance(behind)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_small_print_can_be_read(
    browser: Browser, served: Dashboard, scheme: Literal["light", "dark"]
) -> None:
    served.store.runs.add(done(recipe(bits=4), model=MODEL))
    with browser.new_context(base_url=served.url, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(f"/?model={MODEL}")
        expect(page.locator(".st-key-trade_off .xtitle")).to_be_visible()
        expect(page.locator(".st-key-run button")).to_be_visible()
        for selector, colour in (
            (".st-key-head [data-testid=stCaptionContainer] p", "color"),
            (".st-key-finer summary p", "color"),
            (".st-key-trade_off .xtitle", "fill"),
            (".st-key-trade_off .ytick text", "fill"),
        ):
            text, behind = page.evaluate(_COLOURS, [selector, colour])
            assert contrast(text, behind) >= LEAST, (selector, text, behind)
