"""Every block of code in a README runs, in order, as a person would paste it.

`compression ...` is run for real on a store of the test's own, with `RUN` as the run just made;
Python is executed in one namespace for each README, in the same folder; JSON must be a recipe.
Other programs start servers, install packages or measure for minutes: of these it is checked that
module, group, extra and flags exist.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compression.cli.main import main
from compression.recipe.recipe import parse_recipe
from tests.readme import README, READMES, ROOT
from tests.readme.documents import blocks, commands
from tests.readme.programs import check


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSION_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", READMES, ids=name_of)
def test_every_block_of_code_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "readme"}
    for block in blocks(path):
        if block.language == "python":
            exec(compile(block.text, str(path), "exec"), namespace)
        elif block.language == "json":
            assert parse_recipe(block.text).steps
        else:
            for words in commands(block.text):
                check(words)
                if words[0] == "compression":
                    words = [newest(capsys) if word == "RUN" else word for word in words]
                    assert run(words[1:]) == 0, (words, capsys.readouterr().err)


def run(words: list[str]) -> object:
    """The exit code of `compression` with these arguments."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def newest(capsys: pytest.CaptureFixture[str]) -> str:
    """The id of the run made last."""
    capsys.readouterr()
    assert run(["runs", "--json"]) == 0
    return str(json.loads(capsys.readouterr().out)[-1]["id"])


def test_the_commands_to_start_and_to_test_are_those_that_are_promised() -> None:
    lines = README.read_text().splitlines()
    assert "pip install uv && uv run compression-dashboard" in lines
    tested = "pip install uv && uv run pytest"
    assert tested in lines
    assert tested in (ROOT / ".ci" / "run").read_text().splitlines()
