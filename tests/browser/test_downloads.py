"""Files of a run in a real browser: the packed one at once, another made on request."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from compression.catalogue.examples import examples
from tests.browser.serve import Dashboard

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
def test_take_the_packed_file_and_have_onnx_made(
    page: Page, served: Dashboard, tmp_path: Path
) -> None:
    run = examples()[0].run
    page.goto(f"/?model={run.model}&run={run.id}")
    expect(page.locator(".st-key-cards")).to_contain_text("smaller")

    page.get_by_role("tab", name="Download").click()
    section = page.locator(".st-key-details")
    with page.expect_download() as download:
        section.locator(".st-key-download_packed button").click()
    download.value.save_as(tmp_path / "packed")
    assert download.value.suggested_filename.endswith(f"{run.id[:6]}.safetensors")
    assert (tmp_path / "packed").read_bytes() == served.store.files.get(run.id)

    section.locator(".st-key-make_onnx button").click()
    expect(section).to_contain_text("Being made")
    ready = section.locator(".st-key-download_onnx button")
    expect(ready).to_be_visible(timeout=180_000)
    with page.expect_download() as download:
        ready.click()
    download.value.save_as(tmp_path / "onnx.zip")
    stem = download.value.suggested_filename.removesuffix(".zip")
    with zipfile.ZipFile(tmp_path / "onnx.zip") as packed:
        assert sorted(packed.namelist()) == [f"{stem}.md", f"{stem}.onnx", f"{stem}.py"]
        assert packed.testzip() is None
        assert len(packed.read(f"{stem}.onnx")) > 10_000
    assert served.health()["torch"] is False
