"""The command line while and after it trains: curves, Ctrl-C, temperature sweeps, examples."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compression.cli.execution import training_line
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill
from compression.runs.progress import Point
from compression.runs.results import Run, State
from compression.runs.statistics import Interval
from compression.runs.store import Store, open_store
from tests.compression.cli.calls import (
    MODEL,
    call_here,
    command,
    output_of,
)
from tests.compression.example_runs import curve, example

SHORT = ["--images", "100", "--epochs", "1", "--batch-size", "50", "--device", "cpu"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('cli') / 'runs.sqlite'}"


@pytest.fixture(scope="module")
def swept(url: str) -> dict[str, Any]:
    """A sweep of two real runs, from its JSON on standard output."""
    cells = ["--temperatures", "1,4,1", "--alphas", "0.5"]
    out = call_here("sweep", MODEL.id, *cells, *SHORT, "--store", url, "--json")
    document: dict[str, Any] = json.loads(out)
    return document


@pytest.mark.slow
def test_a_sweep_stores_ordinary_runs_with_their_curves(swept: dict[str, Any], url: str) -> None:
    entries = open_store(url).runs.find()
    assert [c["run"] for c in swept["cells"]] == [e.run.id for e in entries]
    assert [(c["temperature"], c["alpha"]) for c in swept["cells"]] == [(1, 0.5), (4, 0.5)]
    for cell, run in zip(swept["cells"], (e.run for e in entries), strict=True):
        step = Distill(
            temperature=cell["temperature"], alpha=0.5, images=100, epochs=1, batch_size=50
        )
        assert run.recipe == Recipe(steps=(step,))
        assert run.state is State.DONE and run.compressed is not None
        assert run.compressed.top1 == Interval.model_validate(cell["top1"])
        (drawn,) = open_store(url).curves.get(run.id)
        assert drawn.points[-1].step == 2
        assert drawn.points[-1].top1 == run.search_top1  # trained by one half of validation
        assert run.environment["split"] == "report" and run.compressed.top1.n == 2_500
        assert cell["search_top1"] == run.search_top1.model_dump()
    (best,) = [c for c in swept["cells"] if c["best"]]
    assert best["run"] == swept["best"]
    by = [c["search_top1"]["value"] for c in swept["cells"]]
    assert best["search_top1"]["value"] == max(by)


@pytest.mark.slow
def test_a_sweep_takes_what_is_done_and_says_what_can_be_told(
    swept: dict[str, Any], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--temperatures", "1,4", "--alphas", "0.5", *SHORT[:-2], "--store", url]
    started = time.monotonic()
    out, err = output_of(capsys, "sweep", MODEL.id, *arguments)
    assert time.monotonic() - started < 10
    assert err.count("was done before") == 2
    assert out.count("best: ") == 1
    assert f"(run {swept['best']})" in out
    assert "Clearly worse" in out or "may be as good" in out
    assert len(open_store(url).runs.find()) == 2


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_keeps_the_runs_it_has(swept: dict[str, Any], url: str) -> None:
    cells = ["--temperatures", "1,4,8", "--alphas", "0.5", *SHORT[:-2], "--store", url]
    process = subprocess.Popen(
        command("sweep", MODEL.id, *cells),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        until = time.monotonic() + 60
        while "libtorch_cpu" not in Path(f"/proc/{process.pid}/maps").read_text():
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1].startswith("stopped; 2 of 3 runs are stored")
    assert "Traceback" not in err
    assert len(open_store(url).runs.find()) == 2


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--temperatures", "hot"], "temperatures: got 'hot', allowed: numbers separated by"),
        (["--alphas", "0.5,,1"], "alphas: got '0.5,,1', allowed: numbers separated by"),
        (["--temperatures", "0"], "temperature: got 0.0, allowed: from 0 to 50, above 0"),
        (["--temperature", "4"], "--temperature"),
        (["--epochs", "0"], "epochs: got '0', allowed: a whole number from 1 to 100"),
        (["--loss", "logits"], "loss: got 'logits'"),
        (["--recipe", "/dev/null", "--epochs", "2"], "a file alone, without --epochs"),
        (["--preset", "giant"], "preset: got 'giant'"),
    ],
    ids=lambda v: " ".join(v),
)
def test_a_bad_sweep_is_one_line_and_code_2(
    arguments: list[str], line: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = output_of(capsys, "sweep", MODEL.id, *arguments, "--store", store.url, code=2)
    assert (out, err.count("\n")) == ("", 1)
    assert line in err
    assert store.runs.find() == []


# Curves


def finished_with_curves(store: Store) -> Run:
    run = example().run
    store.runs.add(run)
    store.curves.put(run.id, curve(2, (2.345, 1.234)))
    return run


def test_curves_are_shown_as_a_table_and_as_they_are(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_with_curves(store)
    out, _ = output_of(capsys, "curves", run.id[:6], "--store", store.url, "--json")
    assert json.loads(out) == [c.model_dump(mode="json") for c in store.curves.get(run.id)]
    out, _ = output_of(capsys, "curves", run.id, "--store", store.url)
    assert "Step 3" in out and "a processor" in out
    for words in ("epoch", "loss", "hard", "soft", "learning rate", "top-1", "images/s"):
        assert words in out
    assert "50 % (40 to 60)" in out
    first = next(line.split() for line in out.splitlines() if "2.35" in line or "2.34" in line)
    assert first[0] == "0.00" and "0.01" in first and first[-1] == "500"


def test_a_run_without_curves_says_so(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run = example().run
    store.runs.add(run)
    assert "No curves" in output_of(capsys, "curves", run.id, "--store", store.url)[0]
    assert output_of(capsys, "curves", run.id, "--store", store.url, "--json")[0].strip() == "[]"
    assert "run: got 'zzzz'" in output_of(capsys, "curves", "zzzz", "--store", store.url, code=2)[1]


def test_how_training_goes_is_said_in_a_few_words() -> None:
    top1 = Interval(value=0.9, low=0.89, high=0.91, n=5000)
    point = Point(step=3, epoch=0.2, loss=0.4321, learning_rate=0.0073, top1=top1)
    assert training_line(point) == ("loss 0.432 · top-1 90 % (89 to 91) · learning rate 0.0073")
    before = Point(step=0, epoch=0, learning_rate=0.01)
    assert training_line(before) == "learning rate 0.01"


# Ctrl-C


class Terminal:
    """What a program writes to the terminal that its standard error is."""

    def __init__(self, master: int) -> None:
        self.master, self.seen = master, ""

    def read(self, until: Callable[[str], bool], seconds: float = 90) -> str:
        stop = time.monotonic() + seconds
        while not until(self.seen):
            assert time.monotonic() < stop, self.seen
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                break
        return self.seen


@contextmanager
def training(store: Store) -> Iterator[tuple[subprocess.Popen[str], Terminal]]:
    """A training in a terminal, under way."""
    master, slave = pty.openpty()
    arguments = command("run", MODEL.id, "--epochs", "100", "--device", "cpu")
    process = subprocess.Popen(
        [*arguments, "--store", store.url],
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(slave)
    try:
        terminal = Terminal(master)
        terminal.read(lambda seen: "loss" in seen)
        assert "top-1" in terminal.seen and "learning rate" in terminal.seen
        assert re.search(r"Training, epoch 1 of 100 · \d+ %", terminal.seen)  # of the whole run
        yield process, terminal
    finally:
        process.kill()
        process.wait()
        os.close(master)


@pytest.mark.slow
def test_ctrl_c_while_it_trains_keeps_the_best_so_far(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with training(store) as (process, terminal):
        process.send_signal(signal.SIGINT)
        terminal.read(lambda seen: False)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    assert "Stopping: the best so far is kept" in terminal.seen
    assert "(done, stopped early)" in out
    (entry,) = store.runs.find()
    assert entry.run.stopped_early and entry.run.compressed is not None
    assert store.curves.get(entry.run.id)[0].points[-1].top1 is not None
    # its recipe would train to the end, but its file is kept
    out, _ = output_of(capsys, "certify", entry.run.id, "--store", store.url, "--json")
    certificate = json.loads(out)
    assert certificate["stopped_early"] and certificate["environment"]["split"] == "test"
    digest = entry.run.environment["artifact_sha256"]
    assert certificate["environment"]["artifact_sha256"] == digest


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_stores_nothing(store: Store) -> None:
    with training(store) as (process, terminal):
        process.send_signal(signal.SIGINT)
        terminal.read(lambda seen: "Stopping:" in seen)
        process.send_signal(signal.SIGINT)
        terminal.read(lambda seen: False)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 130
    assert "stopped; nothing was stored" in terminal.seen
    assert "Traceback" not in terminal.seen
    assert out == ""
    assert store.runs.find() == []


# Examples


def test_examples_are_listed_beside_the_presets(
    write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one = example()
    write(one)
    out, _ = output_of(capsys, "presets")
    (row,) = [line for line in out.splitlines() if line.split()[:1] == [one.name]]
    assert one.run.model in row and "50 x" in row and "90 % (89 to 91)" in row
    (listed,) = json.loads(output_of(capsys, "presets", "--json")[0])["examples"]
    assert Run.model_validate(listed["run"]) == one.run


def test_an_example_is_not_mixed_with_flags(
    write: Callable[..., Path], store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    write(example())
    arguments = ["run", MODEL.id, "--preset", "tiny", "--bits", "4", "--store", store.url]
    _, err = output_of(capsys, *arguments, code=2)
    assert err.startswith("preset: got 'tiny', allowed: an example alone, without --bits")
    assert err.count("\n") == 1
