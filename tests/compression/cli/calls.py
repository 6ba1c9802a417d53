"""Commands as a person gives them, in this process or in one of their own."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stdout

import pytest

from compression.catalogue.cards import cards
from compression.cli.main import main

MODEL = min((c for c in cards().values() if c.bundled), key=lambda c: c.parameters)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "compression.cli", *arguments]


def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


def call_here(*arguments: str) -> str:
    """Standard output of a command that is run in this process, as text; its exit code is 0."""
    with redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 0
    return out.getvalue()


def output_of(
    capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0
) -> tuple[str, str]:
    """Standard output and error of a command that is run in this process."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert caught.value.code == code, err
    return out, err
