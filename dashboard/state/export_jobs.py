"""Files of a run in other formats, made on request by the command line, in a process of its own.

Not through the store's jobs: a file takes seconds, and there it would wait for a worker that may be
training for an hour; it is kept for this page only, and goes with it.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compression.catalogue.file_formats import FORMATS
from compression.recipe.short_name import short_name, slug
from compression.runs.results import Exported, Run

MOST_KEPT = 8
_MOST_SECONDS = 900.0
_NICENESS = 5
_COMMAND = (sys.executable, "-m", "compression.cli")
State = Literal["waiting", "making", "ready", "failed"]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Making:
    """How far a file is. `path` is of the .zip that holds it, with its card and its script.

    `exported` has the figures of its check against the measured model.
    """

    state: State
    path: Path | None = None
    message: str = ""
    exported: Exported | None = None
    since: float = field(default_factory=time.monotonic, compare=False)

    @property
    def seconds(self) -> float:
        """How long it has been so."""
        return time.monotonic() - self.since


def file_name(run: Run, form: str) -> str:
    """What a run's file is called: by its model, its settings, its id and the format."""
    name = slug(short_name(run.recipe, run.dataset is not None))
    # a .zip does not show the ending of what is in it
    kind = "" if form == "packed" or FORMATS[form].ending else f"-{form}"
    return f"{run.model.replace('/', '-')}-{name}-{run.id[:6]}{kind}{FORMATS[form].suffix}"


class Files:
    """The files requested while the page is up: one is made at a time, the newest are kept."""

    def __init__(self, command: tuple[str, ...] = _COMMAND) -> None:
        self._command = command
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._known: OrderedDict[Key, Making] = OrderedDict()
        self._folder: Path | None = None
        self._process: subprocess.Popen[str] | None = None

    def ask(self, store_url: str, run: Run, form: str) -> None:
        """Have a file made, unless that is under way."""
        key = (store_url, run.id, form)
        with self._lock:
            known = self._known.get(key)
            if known is not None and known.state in ("waiting", "making"):
                return
            self._known[key] = Making("waiting")
        threading.Thread(target=self._make, args=(key, file_name(run, form)), daemon=True).start()

    def state_of(self, store_url: str, run_id: str, form: str) -> Making | None:
        """How far a file is; None if it was not requested, or is no longer kept."""
        with self._lock:
            return self._known.get((store_url, run_id, form))

    def close(self) -> None:
        """End what is under way and remove every file."""
        with self._lock:
            process, folder = self._process, self._folder
            self._process, self._folder = None, None
            self._known.clear()
        if process is not None and process.poll() is None:
            process.kill()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _make(self, key: Key, name: str) -> None:
        with self._turn:
            self._put(key, Making("making"))
            try:
                self._put(key, self._made(key, name))
            except OSError as error:
                self._put(key, Making("failed", message=f"{error.strerror or error}."))
            self._forget_oldest()

    def _made(self, key: Key, name: str) -> Making:
        store_url, run_id, form = key
        with tempfile.TemporaryDirectory(prefix="compression-file-") as folder:
            target = Path(folder) / name
            command = [*self._command, "export", run_id, "--format", form, "-o", str(target)]
            command += ["--store", store_url, "--json"]
            problem, printed = self._run(command)
            if problem:
                return Making("failed", message=problem)
            zipped = Path(tempfile.mkdtemp(dir=self._kept())) / f"{target.stem}.zip"
            with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
                for path in sorted(Path(folder).iterdir()):
                    packed.write(path, path.name)
        return Making("ready", zipped, exported=_read(printed))

    def _run(self, command: list[str]) -> tuple[str, str]:
        """Run it; what went wrong, in one line, or nothing; and what it printed."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with self._lock:
            self._process = process
        with suppress(OSError):  # runs and the page come first
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        try:
            printed, errors = process.communicate(timeout=_MOST_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"It took more than {_MOST_SECONDS / 60:g} minutes and was stopped.", ""
        lines = errors.strip().splitlines() or [f"It ended with code {process.returncode}."]
        return ("" if process.returncode == 0 else lines[-1]), printed

    def _kept(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="compression-files-"))
            return self._folder

    def _put(self, key: Key, making: Making) -> None:
        with self._lock:
            self._known[key] = making
            self._known.move_to_end(key)

    def _forget_oldest(self) -> None:
        with self._lock:
            ready = [k for k, m in self._known.items() if m.state == "ready"]
            gone = [self._known.pop(key) for key in ready[:-MOST_KEPT]]
        for making in gone:
            if making.path is not None:
                shutil.rmtree(making.path.parent, ignore_errors=True)


def _read(printed: str) -> Exported | None:
    """The figures of a file, of all that the command line says of it."""
    try:
        figures = json.loads(printed)
        return Exported.model_validate(
            {k: v for k, v in figures.items() if k in Exported.model_fields}
        )
    except (ValueError, AttributeError):
        return None


FILES = Files()
atexit.register(FILES.close)
