"""Which programs a README may name, and which flags they have."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import sys
import tomllib
import warnings
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import typer

from compression.cli import main as cli
from dashboard.server import launch
from tests.readme import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
Command = Any


def check(words: Sequence[str]) -> None:
    """Refuse a command that could not be run as it is written.

    Raises:
        AssertionError: there is no such program, command, module, flag, group or extra.
    """
    program, *arguments = words
    if program == "pip":
        assert arguments == ["install", "uv"]
    elif program == "uv":
        check(_after_uv(arguments))
    elif program == "python":
        assert arguments[0] == "-m"
        _check_module(arguments[1], arguments[2:])
    elif program == "compression":
        _check_cli(arguments)
    elif program == "compression-dashboard":
        assert program in PROJECT["project"]["scripts"]
        if "--help" not in arguments:
            launch.read_options(arguments)
    else:
        assert words == ["pytest"], words


def _after_uv(arguments: list[str]) -> list[str]:
    assert arguments.pop(0) == "run"
    known = {
        "--group": PROJECT["dependency-groups"],
        "--extra": PROJECT["project"]["optional-dependencies"],
    }
    while arguments[0] in known:
        option, name, *arguments = arguments
        assert name in known[option]
    return arguments


def _check_cli(arguments: list[str]) -> None:
    name, *rest = arguments
    if name.isupper():  # `compression COMMAND --help`
        assert rest == ["--help"]
        return
    assert name in cli_flags(), f"compression {name}"
    unknown = {word for word in rest if word.startswith("-")} - cli_flags()[name]
    assert not unknown, f"compression {name}: {unknown}"


@cache
def cli_flags() -> dict[str, frozenset[str]]:
    """The commands of `compression`, each with its flags."""
    group: Command = typer.main.get_command(cli.app)
    return {
        name: frozenset(["--help", *(o for p in command.params for o in p.opts)])
        for name, command in group.commands.items()
    }


@cache
def dashboard_flags() -> frozenset[str]:
    """The flags of `compression-dashboard`."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        launch.read_options(["--help"])
    return frozenset(re.findall(r"--[a-z][a-z-]*", out.getvalue()))


def _check_module(name: str, arguments: list[str]) -> None:
    """A module that can be run, and has those flags."""
    assert find_spec(name), name
    named = [word for word in arguments if word.startswith("-")]
    if arguments:
        text = help_of(name)
        assert all(re.search(rf"{flag}\b", text) for flag in named), (name, named)


@cache
def help_of(name: str) -> str:
    """What `python -m name --help` prints."""
    out, before = io.StringIO(), sys.argv
    quiet = warnings.catch_warnings(action="ignore")  # runpy minds that it is imported already
    sys.argv = [name, "--help"]
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit), quiet:
            runpy.run_module(name, run_name="__main__")
    finally:
        sys.argv = before
    return out.getvalue()
