"""Calls and stores that were never meant to be: one line on standard error, and code 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from compression.catalogue.cards import cards
from compression.cli.main import main
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Prune
from compression.runs.progress import Curve
from compression.runs.results import LatencyReport, Run, State
from compression.runs.store import Store, new_run

pytestmark = pytest.mark.slow


MODEL = min((c for c in cards().values() if c.bundled), key=lambda c: c.parameters)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line that a command ends with, run in this process."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert caught.value.code == 2, err
    assert (out, err.count("\n")) == ("", 1)
    return err


NOT_UTF8 = "run-\udcff"  # as Python reads a byte that is no text from the command line


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["rename", "x"],
        ["restore"],
        ["certify"],
        ["curves"],
        ["latency"],
        ["export", "-o", "model.safetensors"],
    ],
    ids=lambda v: v[0],
)
@pytest.mark.parametrize("run", [NOT_UTF8, "nul\0", "a\nb", "%", "'; drop table runs"])
def test_a_run_id_that_is_none_is_one_line_and_code_2(
    arguments: list[str], run: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refused(capsys, arguments[0], run, *arguments[1:], "--store", store.url)
    assert err.startswith("run: got ")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///nul\0.sqlite",
        "sqlite:////tmp/nul\0/runs.sqlite",
        "sqlite:///not-utf8-\udcff.sqlite",
        "postgresql+psycopg://me:secret@host:port/name",
        "postgresql+psycopg://me@host\0/name",
        "sqlite:///runs.sqlite?timeout=soon",
    ],
)
def test_a_store_url_that_is_none_is_one_line_and_code_2(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refused(capsys, "runs", "--store", url)
    assert err.startswith("store: ")
    assert "secret" not in err


@pytest.fixture
def damaged(store: Store) -> Callable[[str, str], Run]:
    """A store with a finished run, a part of which is then replaced by something else."""
    run = new_run(MODEL.id, MODEL.dataset, Recipe(steps=(Prune(sparsity=0.5),)), State.DONE)
    store.runs.add(run)
    store.curves.put(run.id, Curve(at=0, epochs=1.0, points=()))
    store.certificates.put(run.id, run)
    store.latency.put(run.id, LatencyReport())

    def damage(where: str, text: str) -> Run:
        table, _, rest = where.partition(".")
        column, _, kind = rest.partition(":")
        condition = f" where kind = '{kind}'" if kind else ""
        with sa.create_engine(store.url).begin() as c:
            c.execute(sa.text(f"update {table} set {column} = :text{condition}"), {"text": text})
        return run

    return damage


@pytest.mark.parametrize("text", ["", "{", "no JSON", "[]", "null", "\x00"])
@pytest.mark.parametrize(
    ("where", "commands"),
    [
        ("runs.body", ("runs", "show", "curves", "certify", "latency", "export")),
        ("facts.body:curve", ("curves",)),
        ("facts.body:certificate", ("show", "certify")),
        ("facts.body:store", ("runs", "show")),
        ("jobs.state", ("runs", "show", "certify")),
    ],
)
def test_a_damaged_store_is_one_line_and_code_2(
    where: str,
    commands: tuple[str, ...],
    text: str,
    damaged: Callable[[str, str], Run],
    store: Store,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    run = damaged(where, text)
    for name in commands:
        arguments = [] if name == "runs" else [run.id]
        arguments += ["-o", str(tmp_path / "model.safetensors")] if name == "export" else []
        err = refused(capsys, name, *arguments, "--store", store.url)
        assert err.startswith("store: ")
        assert "damaged" in err or "which version" in err
