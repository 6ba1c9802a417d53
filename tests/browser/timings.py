"""`python -m tests.browser.timings [RUNS]`: how quick the page is, in a real Chromium.

Prints milliseconds from the command to the first paint of the whole page, and from a key press on
the threshold slider to the slider's own value, to the text beside it and to the chart below it.
With RUNS, the store holds so many copies of the example besides.
Not a test: figures depend on what else the machine does, which is printed too.
"""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from compression.catalogue.examples import examples
from compression.runs.store import Store
from tests.browser.serve import CHROMIUM_FLAGS, dashboard, find_chromium

PRESSES = 30
# Notes, frame by frame, when each of the three first differs after a key press.
_WATCH = """() => {
  const panel = document.querySelector('.st-key-recipe');
  const look = {
    value: () => panel.querySelector('.st-key-threshold [data-testid=stSliderThumbValue]')
      ?.innerText,
    text: () => panel.innerText.match(/[\\d.]+.%\\s*of the weights/)?.[0],
    chart: () => panel.querySelector('.js-plotly-plot .shapelayer path')?.getAttribute('d'),
  };
  const seen = Object.fromEntries(Object.entries(look).map(([name, get]) => [name, get()]));
  window.pressed = 0;
  window.took = {};
  document.addEventListener('keydown', () => {
    window.pressed = performance.now();
    window.took = {};
  }, true);
  const tick = () => {
    for (const [name, get] of Object.entries(look)) {
      const now = get();
      if (now !== seen[name]) {
        seen[name] = now;
        window.took[name] ??= performance.now() - window.pressed;
      }
    }
    requestAnimationFrame(tick);
  };
  tick();
}"""


def slider_times(page: Page) -> dict[str, list[float]]:
    """Milliseconds from key press to change, for the value, the text and the chart."""
    slider = page.locator(".st-key-threshold").get_by_role("slider")
    page.wait_for_timeout(2000)
    page.evaluate(_WATCH)
    slider.focus()
    milliseconds: dict[str, list[float]] = {"value": [], "text": [], "chart": []}
    for i in range(PRESSES):
        page.keyboard.press("ArrowRight" if i % 2 else "ArrowLeft")
        page.wait_for_timeout(800)
        for name, took in page.evaluate("window.took").items():
            milliseconds[name].append(took)
    return milliseconds


def _percentile_95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def fill(store: Store, copies: int) -> None:
    """Put copies of the example in the store, each with an id of its own."""
    (example, *_) = examples()
    for _ in range(copies):
        store.runs.add(example.run.model_copy(update={"id": secrets.token_hex(6)}))


def main() -> None:
    """Start, measure, print."""
    copies = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    print("load of the machine:", *os.getloadavg())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, dashboard(Path(folder)) as up:
            fill(up.store, copies)
            page.goto(f"{up.url}/?threshold=0.003&bits=4")
            expect(page.locator(".st-key-run button")).to_be_visible(timeout=60_000)
            print(f"command to first paint: {1000 * (time.monotonic() - started):.0f} ms")
            for name, took in slider_times(page).items():
                print(
                    f"key press to {name}: median {statistics.median(took):.0f} ms, "
                    f"95th percentile {_percentile_95(took):.0f} ms, "
                    f"largest {max(took):.0f} ms, {len(took)} of {PRESSES} seen"
                )
            browser.close()


if __name__ == "__main__":
    main()
