"""Files to take along: what is offered, making one in a process of its own, and cleaning up."""

from __future__ import annotations

import os
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from compression.catalogue.file_formats import FORMATS
from compression.runs.results import Exported
from compression.runs.store import Store
from dashboard.state import export_jobs
from dashboard.state.export_jobs import Files, Making, file_name
from dashboard.views.run import downloads
from tests.dashboard.page import Open, healthy, open_tab, text_of
from tests.dashboard.runs import done, recipe
from tests.dashboard.speeds import with_speeds

# Writes what it was asked for as the command line does: a file, a card, a script.
_WRITER = """
import json
import sys
from pathlib import Path
at = {name: sys.argv[sys.argv.index(name) + 1] for name in ("export", "--format", "-o", "--store")}
path = Path(at["-o"])
if at["--format"] == "pt2":
    print("warning: old", file=sys.stderr)
    sys.exit("format: got 'pt2', allowed: another one")
path.write_text(at["export"] + at["--store"])
path.with_suffix(".md").write_text("card")
path.with_suffix(".py").write_text("script")
figures = {"format": at["--format"], "file_bytes": 44, "agreement": 0.75}
print(json.dumps({"path": str(path), **figures}))
"""
RUN = done(recipe(bits=4))


@pytest.fixture
def made() -> Iterator[Files]:
    files = Files((sys.executable, "-c", _WRITER))
    yield files
    files.close()


def wait(files: Files, run_id: str, form: str, store: str = "store") -> Making:
    until = time.monotonic() + 60
    while (making := files.state_of(store, run_id, form)) is None or making.state in (
        "waiting",
        "making",
    ):
        assert time.monotonic() < until
        time.sleep(0.02)
    return making


def test_a_file_comes_with_its_card_and_its_script(made: Files) -> None:
    assert made.state_of("store", RUN.id, "onnx") is None
    made.ask("store", RUN, "onnx")
    made.ask("store", RUN, "onnx")  # twice is once
    making = wait(made, RUN.id, "onnx")
    assert making.state == "ready" and making.path is not None
    stem = f"fashion-mnist-resnet18-4bit-{RUN.id[:6]}-onnx"
    assert making.path.name == f"{stem}.zip"
    assert making.exported == Exported(format="onnx", file_bytes=44, agreement=0.75)
    with zipfile.ZipFile(making.path) as packed:
        assert sorted(packed.namelist()) == [f"{stem}.md", f"{stem}.onnx", f"{stem}.py"]
        assert packed.read(f"{stem}.onnx").decode() == f"{RUN.id}store"


def test_files_of_a_run_have_names_of_their_own() -> None:
    stems = {Path(file_name(RUN, form)).stem for form in FORMATS}
    assert len(stems) == len(FORMATS)
    assert all(RUN.id[:6] in stem and "4bit" in stem for stem in stems)


def test_what_goes_wrong_is_one_line(made: Files) -> None:
    made.ask("store", RUN, "pt2")
    making = wait(made, RUN.id, "pt2")
    assert making == Making("failed", message="format: got 'pt2', allowed: another one")


def test_only_the_newest_are_kept_and_none_when_the_page_ends(
    made: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(export_jobs, "MOST_KEPT", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    others = [done(recipe(bits=b)) for b in (2, 3)]
    for run in others:
        made.ask("store", run, "onnx")
        newest = wait(made, run.id, "onnx").path
    assert newest is not None
    until = time.monotonic() + 10
    while list(tmp_path.rglob("*.zip")) != [newest]:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert made.state_of("store", others[0].id, "onnx") is None
    made.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_line_says_why_a_run_cannot_be_exported(store: Store) -> None:
    made = Files()
    made.ask(store.url, RUN, "packed")
    making = wait(made, RUN.id, "packed", store.url)
    assert making.state == "failed" and "\n" not in making.message
    assert RUN.id in making.message


def test_every_format_says_its_size_and_what_it_is_for(page: Open, store: Store) -> None:
    run = with_speeds(done(recipe(bits=4), file_bytes=1_830_000))
    store.runs.add(run)
    store.files.put(run.id, os.urandom(100))
    at = page()
    assert "Packed file" not in text_of(at)
    text = text_of(open_tab(at, "Download")).replace("\N{NO-BREAK SPACE}", " ")
    for kind in FORMATS.values():
        assert f"**{kind.label}**" in text and kind.use in text
    for size in ("1.83 MB", "44.9 MB", "11.4 MB", "About 44.8 MB"):
        assert size in text
    assert "Weights under 8 bits run as int8 kernels" in text
    assert "Same label as the measured model for 99.4 % of images, accuracy 91.5 %." in text
    keys = [b.key for b in at.get("download_button")]
    assert keys == ["picture_png", "picture_svg", "download_packed", None]
    assert {b.key for b in at.button} >= {"make_onnx", "make_onnx-int8", "make_pt2"}


def test_a_run_without_its_file_has_it_made(page: Open, store: Store) -> None:
    store.runs.add(done(recipe(bits=4)))
    at = page()
    open_tab(at, "Download")
    assert "make_packed" in {b.key for b in at.button}
    text = text_of(at).replace("\N{NO-BREAK SPACE}", " ")
    assert text.count("About 44.8 MB") == 2 and "About 11.2 MB" in text  # nothing was counted


def test_asked_for_made_and_offered_or_said_why_not(
    page: Open, store: Store, made: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "FILES", made)
    run = done(recipe(bits=4))
    store.runs.add(run)
    at = page()
    open_tab(at, "Download")
    for form in ("onnx", "pt2"):
        healthy(at.button(key=f"make_{form}").click().run())
        wait(made, run.id, form, store.url)
    text = text_of(healthy(at.run())).replace("\N{NO-BREAK SPACE}", " ")
    assert "download_onnx" in {b.key for b in at.get("download_button")}
    assert "Same label as the measured model for 75.0 % of images." in text
    assert "format: got 'pt2', allowed: another one" in text
    assert at.button(key="make_pt2").label == "Try again"
    assert "Being made" not in text
