"""The command line of `compression-dashboard`, and the port to listen on."""

from __future__ import annotations

import argparse
import os
import socket
from dataclasses import dataclass
from typing import Any

from compression.errors import InvalidInput
from compression.paths import STORE_VARIABLE

DEFAULT_PORT = 8501
_DESCRIPTION = "Starts the page and, beside it, the process that does the runs."
_PORTS_TRIED = 50
_MOST_PORTS, _MOST = 65535, 1000


@dataclass(frozen=True)
class Options:
    """The command line's options. `port` is None when the next free one will do, `threads` when
    workers share the cores, `runs_per_person` when any number of runs may wait."""

    host: str
    port: int | None
    headless: bool
    store: str | None
    public_host: str | None = None
    workers: int = 1
    threads: int | None = None
    runs_per_person: int | None = None
    admin: bool = False


class _OneLine(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.exit(2, f"{message}; see {self.prog} --help\n")


def read_options(arguments: list[str]) -> Options:
    """Read the command line; a wrong option ends the program with one line and exit code 2.

    Raises:
        InvalidInput: the port is not a port, or a number is not one that is allowed.
    """
    parser = _OneLine(prog="compression-dashboard", description=_DESCRIPTION)
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
    parser.add_argument(
        "--public-host",
        help="host name by which browsers reach the page, if a proxy stands in front of it",
    )
    parser.add_argument("--workers", help="runs done at a time (default: 1)")
    parser.add_argument("--threads", help="threads of each worker (default: cores / workers)")
    parser.add_argument(
        "--runs-per-person", help="most runs of one person that may wait (default: any number)"
    )
    parser.add_argument(
        "--admin",
        action="store_true",
        help="print a link that lets its browser change everybody's runs",
    )
    values = parser.parse_args(arguments)
    return Options(
        host=values.host,
        port=_whole("port", values.port, _MOST_PORTS),
        headless=values.headless,
        store=values.store,
        public_host=values.public_host,
        workers=_whole("workers", values.workers) or 1,
        threads=_whole("threads", values.threads),
        runs_per_person=_whole("runs-per-person", values.runs_per_person),
        admin=values.admin,
    )


def _whole(option: str, text: str | None, most: int = _MOST) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise InvalidInput(option, text, f"a whole number from 1 to {most}")
    return int(text)


def choose_port(host: str, port: int | None) -> int:
    """That port, or the first free one from 8501 on if it is None.

    Raises:
        InvalidInput: it is taken or may not be used, or the host is not an address of this
            machine.
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
    wrong = port or f"{tried[0]} to {tried[-1]}"
    raise InvalidInput("port", wrong, f"a free port of {host} ({reason})")


def _cannot_listen(host: str, port: int) -> OSError | None:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with socket.socket(addresses[0][0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(addresses[0][4])
            probe.listen(1)
    except OSError as error:
        return error
    return None
