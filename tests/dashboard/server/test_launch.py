"""The command: what it refuses, and what the page's process loads."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compression.errors import InvalidInput
from dashboard.server import security
from dashboard.server.options import choose_port, read_options
from dashboard.server.runner import Runner
from dashboard.state import people


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
        (["--workers", "0"], "workers: got '0', allowed: a whole number from 1 to 1000"),
        (["--threads", "two"], "threads: got 'two'"),
        (["--runs-per-person", "-1"], "runs-per-person: got '-1'"),
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


FOR_A_CLASS = ("--public-host", "--workers", "--threads", "--runs-per-person", "--admin")


@pytest.mark.slow
def test_help_names_every_option() -> None:
    shown = command("--help")
    assert shown.returncode == 0
    for option in ("--port", "--host", "--headless", "--store", *FOR_A_CLASS):
        assert option in shown.stdout


def test_defaults_are_the_loopback_address_and_a_browser() -> None:
    options = read_options([])
    assert (options.host, options.port, options.headless) == ("127.0.0.1", None, False)
    assert (options.workers, options.threads, options.runs_per_person) == (1, None, None)
    assert not options.admin


def test_the_runner_is_given_its_workers_and_their_threads() -> None:
    assert Runner("sqlite://", 4, 2).command[-4:] == ["--workers", "4", "--threads", "2"]
    assert "--threads" not in Runner("sqlite://").command


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
    for host in ("127.0.0.1", "0.0.0.0", "::"):
        known = security.allowed_hosts(host, "compress.example.org")
        assert {"compress.example.org", "127.0.0.1"} <= {*known}
        assert "*" not in known and "0.0.0.0" not in known


@pytest.mark.parametrize(
    ("host", "public_host", "shared"),
    [
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("127.0.0.1", "compress.example.org", True),
        ("0.0.0.0", None, True),
        ("192.168.0.7", None, True),
        ("box.example", None, True),
    ],
)
def test_a_page_is_shared_where_other_machines_reach_it(
    host: str, public_host: str | None, shared: bool
) -> None:
    assert security.is_shared(host, public_host) is shared


PAGE = (b"content-type", b"text/html; charset=utf-8")


def answered(app: ASGIApp, address: str = "/", **headers: str) -> tuple[int, Headers]:
    """The status and the headers that an app answers a request with."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    path, _, query = address.partition("?")
    given = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query.encode()}
    asyncio.run(app({**scope, "headers": given}, receive, send))
    return sent[0]["status"], Headers(raw=sent[0]["headers"])


async def page(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [PAGE]})


def headers_of_a_page(**given: str) -> Headers:
    """What the server sends with a page to a browser that sent these headers."""
    return answered(security.PersonCookie(page), **given)[1]


def test_a_browser_gets_an_id_with_its_first_page_and_keeps_it() -> None:
    given = headers_of_a_page()["set-cookie"]
    assert re.match(r"compression_person=[0-9a-f]{16}; ", given)
    # lax: who comes by a link in a mail is to be known too
    assert "HttpOnly" in given and "SameSite=Lax" in given
    assert headers_of_a_page()["set-cookie"] != given  # another browser is another person
    assert "set-cookie" not in headers_of_a_page(cookie=f"a=b; {given.split(';')[0]}")


def test_a_cookie_that_came_by_https_stays_on_https() -> None:
    assert "Secure" in headers_of_a_page(x_forwarded_proto="https")["set-cookie"]
    assert "Secure" not in headers_of_a_page()["set-cookie"]


def opened(token: str, given: str | None) -> tuple[int, Headers]:
    """What a server with this token answers to the admin's link, with the token given."""
    address = "/admin" if given is None else security.admin_link("", given)
    return answered(Starlette(routes=security.routes(lambda: None, token)), address)


def test_the_printed_link_makes_a_browser_the_admins() -> None:
    status, headers = opened("secret", "secret")
    assert (status, headers["location"]) == (303, "/")
    cookie = SimpleCookie(headers["set-cookie"])[people.ADMIN_COOKIE]
    assert people.is_admin({people.ADMIN_COOKIE: cookie.value}, "secret")
    assert cookie["httponly"] and cookie["samesite"] == "Strict"


@pytest.mark.parametrize("given", [None, "", "secre", "Secret", "another"])
def test_no_other_link_does(given: str | None) -> None:
    status, headers = opened("secret", given)
    assert status == 403 and "set-cookie" not in headers


def test_without_an_admin_there_is_no_such_link() -> None:
    for given in (None, "", "secret"):
        status, headers = opened("", given)
        assert status == 404 and "set-cookie" not in headers
