"""The command line. Step flags are made from the recipe's fields; nothing is retyped here."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

import typer

from compression.cli import commands, files, latency, training
from compression.cli.app import Interrupted, app
from compression.errors import CompressionError
from compression.paths import configure_process, data_dir

_STOPPED = "stopped; nothing was stored"

__all__ = ["commands", "files", "latency", "main", "training"]


def main(arguments: list[str] | None = None) -> None:
    """Entry point: whatever goes wrong is one line on stderr and an exit code."""
    configure_process()
    code = _guarded(arguments)
    _forget_interrupt()
    sys.exit(code)


def _forget_interrupt() -> None:
    """Let the program end with the code it gives to `sys.exit`.

    CPython remembers that Ctrl-C came while a text was being executed, as dataclasses execute
    theirs when they are imported, and then ends the process by SIGINT whatever the code is, until
    it has executed another text (`unhandled_keyboard_interrupt` in pythonrun.c). The other ways
    out, `os._exit` and blocking the signal, leave out what is to be done at exit or outlive `main`.
    """
    exec("")


def _guarded(arguments: list[str] | None) -> int:
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = app(args=given or ["--help"], prog_name="compression", standalone_mode=False)
    except Interrupted as error:
        return _complain(str(error), 130)
    except KeyboardInterrupt:  # where the library that reads the arguments does not see it
        return _complain(_STOPPED, 130)
    except CompressionError as error:
        return _complain(str(error), 2)
    except typer.TyperException as error:
        return _complain(error.format_message(), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _complain(f"{where}{error.strerror or error}", 2)
    except Exception as error:
        name = f"{type(error).__name__}: {error}"
        return _complain(f"unexpected error: {name}, please report; details in {_keep()}", 1)
    if code == 130:
        return _complain(_STOPPED, 130)
    return int(code or 0)


def _complain(line: str, code: int) -> int:
    print(" ".join(line.split()), file=sys.stderr)
    return code


def _keep() -> Path:
    """Write the traceback where a person can find it, and say where."""
    name = time.strftime("error-%Y%m%d-%H%M%S.log")
    for folder in (data_dir(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(traceback.format_exc(), encoding="utf-8")
            return folder / name
    return Path(os.devnull)
