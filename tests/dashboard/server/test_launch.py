"""The command: what it refuses, and what the page's process loads."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from compression.errors import InvalidInput
from dashboard.server import security
from dashboard.server.options import choose_port, read_options


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dashboard.server.launch", "--headless", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "0"], "port: got '0', allowed: a whole number from 1 to 65535"),
        (["--port", "65536"], "port: got '65536'"),
        (["--port", "many"], "port: got 'many'"),
        (["--host", "256.1.1.1"], "host: got '256.1.1.1'"),
        (["--store", "nonsense"], "store: got 'nonsense'"),
        (["--store", "sqlite:////proc/nowhere/runs.sqlite"], "store: "),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    store = [] if "--store" in arguments else ["--store", f"sqlite:///{tmp_path}/runs.sqlite"]
    ended = command(*arguments, *store)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert says in ended.stderr


@pytest.mark.slow
def test_a_port_in_use_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = command("--port", str(port), "--store", f"sqlite:///{tmp_path}/runs.sqlite")
        with pytest.raises(InvalidInput):
            choose_port("127.0.0.1", port)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"port: got {port}, allowed: a free port of 127.0.0.1")
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_help_names_every_option() -> None:
    shown = command("--help")
    assert shown.returncode == 0
    for option in ("--port", "--host", "--headless", "--store"):
        assert option in shown.stdout


def test_defaults_are_the_loopback_address_and_a_browser() -> None:
    options = read_options([])
    assert (options.host, options.port, options.headless) == ("127.0.0.1", None, False)


@pytest.mark.slow
def test_importing_the_page_does_not_import_torch() -> None:
    code = (
        "import sys; from dashboard.server import preload; preload.begin(); preload.wait(); "
        "sys.exit('torch' in sys.modules or 'dashboard.views.explore' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


def test_only_our_own_names_are_answered() -> None:
    assert security.allowed_hosts("127.0.0.1") == ["127.0.0.1", "localhost"]
    assert security.allowed_hosts("0.0.0.0") == ["*"]
    assert "box.example" in security.allowed_hosts("box.example")


PAGE = (b"content-type", b"text/html; charset=utf-8")


def headers_of_a_page(cookie: str) -> dict[str, str]:
    """What the server sends with a page to a browser that has this cookie."""
    sent: list[Message] = []

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [PAGE]})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "headers": [(b"cookie", cookie.encode())] if cookie else []}
    answer = security.PersonCookie(page)(scope, receive, send)
    with pytest.raises(StopIteration):  # nothing here waits, so one step is all of it
        answer.send(None)
    return {k.decode().lower(): v.decode() for k, v in sent[0]["headers"]}


def test_a_browser_gets_an_id_with_its_first_page_and_keeps_it() -> None:
    given = headers_of_a_page("")["set-cookie"]
    assert re.match(r"compression_person=[0-9a-f]{16}; ", given)
    assert "HttpOnly" in given and "SameSite=Strict" in given
    assert headers_of_a_page("")["set-cookie"] != given  # another browser is another person
    assert "set-cookie" not in headers_of_a_page(f"a=b; {given.split(';')[0]}")
