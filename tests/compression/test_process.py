"""Importing the package leaves a person's process alone; our own programs set theirs up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from compression.cli.main import main as cli
from compression.jobs import command, preload, runner
from dashboard.server import launch

SETTINGS = ("GOMP_SPINCOUNT", "MKL_DYNAMIC")


def python(code: str) -> str:
    """What a fresh process prints whose environment says nothing of our settings."""
    environment = {k: v for k, v in os.environ.items() if k not in SETTINGS}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_importing_the_package_changes_nothing_in_the_process() -> None:
    code = """
import os
before = dict(os.environ)
import compression
assert dict(os.environ) == before
import torch
def state():
    return (dict(os.environ), torch.get_num_threads(), torch.get_num_interop_threads(),
            torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled())
before = state()
for name in compression.__all__:
    getattr(compression, name)
assert state() == before
print("same")
"""
    assert python(code) == "same"


def test_what_the_environment_says_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.delenv("MKL_DYNAMIC", raising=False)
    with pytest.raises(SystemExit):
        cli(["--help"])
    assert (os.environ["GOMP_SPINCOUNT"], os.environ["MKL_DYNAMIC"]) == ("7", "FALSE")


@pytest.mark.parametrize(
    "start",
    [
        lambda: cli(["--help"]),
        command.main,
        launch.main,
        lambda: preload.dask_setup(None),
        lambda: runner.do_job("sqlite://", None),  # type: ignore[arg-type]
    ],
    ids=["command line", "runner", "dashboard", "worker", "worker without its preload"],
)
def test_programs_configure_their_own_process(
    start: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise SystemExit

    monkeypatch.setattr(command, "app", stop)
    monkeypatch.setattr(launch, "read_options", stop)
    monkeypatch.setattr("compression.jobs.worker.work", stop)
    monkeypatch.setattr(os, "nice", stop)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit):
        start()
    assert (os.environ["GOMP_SPINCOUNT"], os.environ["MKL_DYNAMIC"]) == ("1000", "FALSE")


@pytest.mark.slow
def test_the_command_line_configures_before_torch_is_there() -> None:
    code = """
import os, sys
from compression.cli.main import main
assert "torch" not in sys.modules and "MKL_DYNAMIC" not in os.environ
try:
    main(["models"])
except SystemExit:
    pass
print("torch" in sys.modules, os.environ["MKL_DYNAMIC"])
"""
    assert python(code).splitlines()[-1] == "False FALSE"
