"""A real dashboard on a free port, with a store and a cache of its own, and a real Chromium."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from compression.runs.store import Store, open_store

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_SECONDS, STOP_SECONDS = 60.0, 30.0


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome on this machine."""
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Dashboard:
    """A dashboard that is up."""

    url: str
    store: Store
    process: subprocess.Popen[bytes]
    log: Path

    def health(self) -> dict[str, object]:
        """What its health route says."""
        # not by a proxy that the environment names, or named when it was first looked for
        direct = build_opener(ProxyHandler({}))
        with direct.open(f"{self.url}/api/health", timeout=5) as response:
            health: dict[str, object] = json.load(response)
        return health

    def workers(self) -> list[int]:
        """Processes below the page's that have loaded torch."""
        below = descendants(self.process.pid)
        return [pid for pid in below if "libtorch" in memory_map(pid)]


def memory_map(pid: int) -> str:
    """The files a process has mapped; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """Every process below that one."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    below, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        below += children
        todo += children
    return below


def free_port() -> int:
    """A port nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def dashboard(
    folder: Path, store_url: str | None = None, options: Sequence[str] = ()
) -> Iterator[Dashboard]:
    """Start `compression-dashboard`, wait until it answers, and stop it in good order.

    Raises:
        RuntimeError: it did not come up, or did not end when asked; with its output.
    """
    store_url = store_url or f"sqlite:///{folder / 'runs.sqlite'}"
    port, log = free_port(), folder / "dashboard.log"
    environment = {"COMPRESSION_CACHE": str(folder / "cache")} | os.environ
    command = [sys.executable, "-m", "dashboard.server.launch", "--headless"]
    command += ["--port", str(port), "--store", store_url, *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    up = Dashboard(f"http://127.0.0.1:{port}", open_store(store_url), process, log)
    try:
        _wait(up)
        yield up
    finally:
        _stop(up)


def _wait(up: Dashboard) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and up.process.poll() is None:
        with suppress(URLError, OSError):
            up.health()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the dashboard did not come up:\n{up.log.read_text()}")


def _stop(up: Dashboard) -> None:
    below = descendants(up.process.pid)
    up.process.send_signal(signal.SIGINT)
    try:
        up.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in [up.process.pid, *below]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise RuntimeError(f"the dashboard did not end:\n{up.log.read_text()}") from None
