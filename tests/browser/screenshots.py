"""`python -m tests.browser.screenshots`: real runs, and pictures of the page that shows them.

Starts a dashboard with a store of its own (or `--store URL`, to use runs that are there), has it do
a handful of runs of one model, and writes explore-light.png and explore-dark.png to
assets/screenshots (or `--to FOLDER`). `--width 900` and `--names a,b` help while designing.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from compression.recipe.recipe import Recipe, parse
from compression.runs.results import ACTIVE, State
from compression.runs.store import Store, new_run
from tests.browser.serve import CHROMIUM_FLAGS, Dashboard, dashboard, find_chromium

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "screenshots"
LARGEST = 400_000
HEIGHT = 900
SCHEMES = ("light", "dark")
Steps = list[dict[str, object]]
_QUANTIZE: Steps = [{"step": "quantize", "bits": bits} for bits in (8, 4, 3, 2)]
_PRUNE: Steps = [{"step": "prune", "sparsity": s} for s in (0.8, 0.9, 0.95)]
_DISTILL: dict[str, object] = {"step": "distill", "augmentation": "none"}
# The last one is selected in the pictures.
RECIPES: list[Steps] = [
    [_QUANTIZE[0]],
    [_QUANTIZE[2]],
    [_QUANTIZE[3]],
    [_PRUNE[0], _QUANTIZE[1]],
    [_PRUNE[1], _QUANTIZE[1]],
    [_PRUNE[2], _QUANTIZE[1]],
    [_PRUNE[2], _QUANTIZE[1], _DISTILL],
    [_PRUNE[1], _QUANTIZE[2], _DISTILL],
]


def make_runs(store: Store, model: str, seconds: float) -> None:
    """Queue the runs and wait until all have ended."""
    for steps in RECIPES:
        store.runs.add(new_run(model, model.split("/")[0], parse(Recipe, {"steps": steps})))
    until = time.monotonic() + seconds
    while left := store.runs.find(model, ACTIVE):
        if time.monotonic() > until:
            raise SystemExit(f"{len(left)} runs are still not done after {seconds:g} s")
        time.sleep(1)


def picture(browser: Browser, up: Dashboard, query: str, scheme: str, width: int) -> bytes:
    """The first screen of the page as PNG: what is seen without scrolling."""
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHT},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto(f"{up.url}/{query}")
    expect(page.locator(".st-key-run button")).to_be_visible(timeout=60_000)
    page.wait_for_timeout(3000)
    png = page.screenshot()
    context.close()
    return png


def optimised(png: bytes) -> bytes:
    """The picture in as few bytes as keep every colour.

    Raises:
        SystemExit: it is still larger than a repository should carry.
    """
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "PNG", optimize=True)
    if len(file.getvalue()) > LARGEST:
        raise SystemExit(f"the picture has {len(file.getvalue())} bytes, more than {LARGEST}")
    return file.getvalue()


def main() -> None:
    """Make the runs and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fashion-mnist/resnet18")
    parser.add_argument("--store", help="use the runs in this store instead of making new ones")
    parser.add_argument("--to", type=Path, default=FOLDER)
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--name", default="explore")
    parser.add_argument("--query", help="the page's parameters, such as model=...&bits=4")
    parser.add_argument("--seconds", type=float, default=1800.0, help="how long runs may take")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    path = find_chromium()
    with tempfile.TemporaryDirectory() as folder, dashboard(Path(folder), options.store) as up:
        if not options.store:
            make_runs(up.store, options.model, options.seconds)
        done = [e.run.id for e in up.store.runs.find(options.model, (State.DONE,))]
        chosen = f"&run={done[-1]}" if done else ""
        settings = "sparsity=0.9&bits=3&temperature=4&augmentation=none"
        query = "?" + (options.query or f"model={options.model}&{settings}{chosen}")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
            for scheme in SCHEMES:
                png = optimised(picture(browser, up, query, scheme, options.width))
                (options.to / f"{options.name}-{scheme}.png").write_bytes(png)
            browser.close()


if __name__ == "__main__":
    main()
