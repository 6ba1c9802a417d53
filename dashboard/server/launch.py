"""`compression-dashboard`: starts the page and, beside it, the process that does the runs."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import subprocess
import sys
import traceback
import webbrowser
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.errors import CompressionError, InvalidInput
from compression.paths import STORE_VARIABLE, cache_dir, configure_process
from compression.runs.store import open_store
from dashboard.server import preload

SCRIPT = Path(__file__).resolve().parents[1] / "app.py"
DEFAULT_PORT = 8501
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PORTS_TRIED = 50
_STOP_SECONDS = 10.0
_RUNNER_NICENESS = 5
_FIRST_PAGE_SECONDS = 3.0
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Options:
    """What the command line asks for. `port` is None when the next free one will do."""

    host: str
    port: int | None
    headless: bool
    store: str | None


class _OneLine(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.exit(2, f"{message}; see {self.prog} --help\n")


def read_options(arguments: list[str]) -> Options:
    """Read the command line; ends the program with one line and exit code 2 if it is wrong."""
    parser = _OneLine(prog="compression-dashboard", description=__doc__)
    parser.add_argument(
        "--port", help=f"port to listen on, 1 to 65535 (default: {DEFAULT_PORT} or the next free)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--headless", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--store",
        default=os.environ.get(STORE_VARIABLE) or None,
        help="where runs are kept, as an SQLAlchemy URL such as sqlite:///runs.sqlite",
    )
    given = parser.parse_args(arguments)
    return Options(given.host, _port(given.port), given.headless, given.store)


def _port(given: str | None) -> int | None:
    if given is None:
        return None
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= 65535:
        raise InvalidInput("port", given, "a whole number from 1 to 65535")
    return int(given)


def choose_port(host: str, port: int | None) -> int:
    """The port asked for, or the first free one from 8501 on.

    Raises:
        InvalidInput: it is taken or may not be used, or the host is not this machine's.
    """
    tried = [port] if port else range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED)
    problem: OSError | None = None
    for candidate in tried:
        problem = _cannot_listen(host, candidate)
        if problem is None:
            return candidate
        if isinstance(problem, socket.gaierror):
            raise InvalidInput("host", host, "an address of this machine, such as 127.0.0.1")
    reason = problem.strerror if problem else "none"
    field, given = ("port", port) if port else ("port", f"{tried[0]} to {tried[-1]}")
    raise InvalidInput(field, given, f"a free port of {host} ({reason})")


def _cannot_listen(host: str, port: int) -> OSError | None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with socket.socket(found[0][0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[0][4])
            probe.listen(1)
    except OSError as error:
        return error
    return None


class Runner:
    """The process that does the runs, started again should it ever end by itself."""

    def __init__(self, store_url: str) -> None:
        self._command = [sys.executable, "-m", "compression.jobs", "--store", store_url]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, or None while it is not running."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process and running else None

    def start(self) -> None:
        # It ends when this pipe closes, so it cannot outlive the page, however the page ends.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, start_new_session=True
        )
        with suppress(OSError):  # the page stays quick while runs take all they can get
            os.setpriority(os.PRIO_PROCESS, self._process.pid, _RUNNER_NICENESS)

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
    # Loading torch in the worker beside the first page would slow that page.
    await asyncio.to_thread(preload.wait)
    await asyncio.sleep(_FIRST_PAGE_SECONDS)
    runner.start()
    await runner.keep()


def _lifespan(runner: Runner, when_up: Callable[[], None]) -> Callable[[Any], Any]:
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


def _log_script_error(error: Exception) -> bool:
    """Keep the traceback in a file; the page shows one line."""
    import streamlit as st

    path = cache_dir() / "dashboard-errors.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            traceback.print_exception(error, file=log)
        where = f" The details are in {path}."
    except OSError:
        where = ""
    st.error(f"This part of the page could not be shown. Please reload.{where}")
    return True


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    # Streamlit logs a script's traceback to the terminal as well; the file above has it.
    logging.getLogger("streamlit.runtime.scriptrunner.exec_code").setLevel(logging.CRITICAL)
    logging.getLogger("streamlit.error_util").setLevel(logging.CRITICAL)
    yield


def serve(options: Options, store_url: str, port: int) -> None:
    """Serve the page until somebody stops it."""
    import streamlit as st

    from dashboard.server import security

    os.environ[STORE_VARIABLE] = store_url
    preload.begin()
    runner = Runner(store_url)
    shown = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{'localhost' if shown in ('0.0.0.0', '[::]') else shown}:{port}"

    def when_up() -> None:
        print(f"Compression Dashboard: {address}  (Ctrl+C stops it)", flush=True)
        if not options.headless:
            webbrowser.open(address)

    app = st.App(
        SCRIPT,
        lifespan=_lifespan(runner, when_up),
        routes=security.routes(lambda: runner.pid),
        middleware=security.middleware(options.host),
        on_script_error=_log_script_error,
    )
    sys.argv = [str(SCRIPT)]  # so that .streamlit/config.toml beside the page is the one read
    with _without_tracebacks():
        app.run(
            config={
                "server.address": options.host,
                "server.port": port,
                "server.headless": True,
                "server.allowedHosts": security.allowed_hosts(options.host),
            }
        )


def main() -> None:
    """The console script."""
    configure_process()
    try:
        options = read_options(sys.argv[1:])
        store_url = open_store(options.store).url
        port = choose_port(options.host, options.port)
    except CompressionError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    serve(options, store_url, port)


if __name__ == "__main__":
    main()
