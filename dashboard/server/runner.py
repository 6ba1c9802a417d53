"""The process that does the runs, kept up beside the page."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from dashboard.server import preload

_STOP_SECONDS = 10.0
_NICENESS = 5
_FIRST_PAGE_SECONDS = 3.0
_LONGEST_PAUSE = 30.0


class Runner:
    """The process that does the runs of one store, started again should it ever end."""

    def __init__(self, store_url: str, workers: int = 1, threads: int | None = None) -> None:
        self.command = [sys.executable, "-m", "compression.jobs", "--store", store_url]
        self.command += ["--workers", str(workers)]
        self.command += [] if threads is None else ["--threads", str(threads)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, or None while it is not running."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process and running else None

    def start(self) -> None:
        """Start it, at a lower priority than the page."""
        # It ends when this pipe closes, so it cannot outlive the page, however the page ends.
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, start_new_session=True
        )
        with suppress(OSError):  # the page stays quick while runs take all they can get
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)

    def stop(self) -> None:
        """Ask it to end, and end it if it does not."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    async def keep(self) -> None:
        """Start it again whenever it has ended, after a pause that doubles up to 30 s."""
        pause = 1.0
        while True:
            await asyncio.sleep(pause)
            if self.pid is None:
                self.start()
                pause = min(2 * pause, _LONGEST_PAUSE)


async def _after_first_page(runner: Runner) -> None:
    # Loading torch while the first page is drawn would slow that page down.
    await asyncio.to_thread(preload.wait)
    await asyncio.sleep(_FIRST_PAGE_SECONDS)
    runner.start()
    await runner.keep()


def lifespan(runner: Runner, when_up: Callable[[], None]) -> Callable[[Any], Any]:
    """The server's lifespan: calls `when_up` once it answers, starts the runner after the first
    page, and stops it at the end."""

    @asynccontextmanager
    async def span(_app: Any) -> AsyncIterator[dict[str, Any]]:
        asyncio.get_running_loop().call_later(0.1, when_up)
        keeper = asyncio.create_task(_after_first_page(runner))
        try:
            yield {}
        finally:
            keeper.cancel()
            await asyncio.to_thread(runner.stop)

    return span
