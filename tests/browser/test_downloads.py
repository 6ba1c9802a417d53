"""Files of a run in a real browser: the packed one at once, another made on request."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from compression.catalogue.examples import examples
from tests.browser.conftest import watched_page
from tests.browser.serve import Dashboard
from tests.browser.steps import run_in_url
from tests.dashboard.runs import done, recipe

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
def test_take_the_packed_file_and_have_onnx_made(
    page: Page, browser: Browser, served: Dashboard, tmp_path: Path
) -> None:
    run, theirs = examples()[0].run, done(recipe(bits=7, sparsity=0.44))
    page.goto(f"/?model={run.model}&run={run.id}")
    expect(page.locator(".st-key-cards")).to_contain_text("smaller")
    served.store.runs.add(theirs)  # only now: a store that has runs gets no examples

    page.get_by_role("tab", name="Download").click()
    section = page.locator(".st-key-details")
    with page.expect_download() as download:
        section.locator(".st-key-download_packed button").click()
    download.value.save_as(tmp_path / "packed")
    assert download.value.suggested_filename.endswith(f"{run.id[:6]}.safetensors")
    assert (tmp_path / "packed").read_bytes() == served.store.files.get(run.id)

    with watched_page(browser, served.url) as other:
        other.goto(f"/?model={theirs.model}&run={theirs.id}&tab=Download")
        make_theirs = other.locator(".st-key-make_onnx button")
        expect(make_theirs).to_be_visible()
        section.locator(".st-key-make_onnx button").click()
        expect(section).to_contain_text("Being made")
        other.reload()
        expect(make_theirs).to_be_visible()  # what is made is of one run, and not of theirs
        assert run_in_url(other) == theirs.id
    ready = section.locator(".st-key-download_onnx button")
    expect(ready).to_be_visible(timeout=180_000)
    with page.expect_download() as download:
        ready.click()
    download.value.save_as(tmp_path / "onnx.zip")
    assert run_in_url(page) == run.id
    stem = download.value.suggested_filename.removesuffix(".zip")
    with zipfile.ZipFile(tmp_path / "onnx.zip") as packed:
        assert sorted(packed.namelist()) == [f"{stem}.md", f"{stem}.onnx", f"{stem}.py"]
        assert packed.testzip() is None
        assert len(packed.read(f"{stem}.onnx")) > 10_000
    assert served.health()["torch"] is False
