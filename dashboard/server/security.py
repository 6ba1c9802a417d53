"""Security headers, cookies, the host names that are answered, and the routes beside the page."""

from __future__ import annotations

import ipaddress
import secrets
import sys
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.state.people import ADMIN_COOKIE, COOKIE

# Streamlit's own page needs inline styles and scripts; nothing may come from another host.
_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
_ADMIN_PATH = "/admin"
_YEAR = 31_536_000  # seconds
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class SecurityHeaders:
    """ASGI middleware that adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class PersonCookie:
    """ASGI middleware that gives a browser an id of its own with its first page, so that a run
    is known as its person's. It says nothing about the person, and scripts cannot read it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = scope["type"] != "http" or COOKIE in cookie_parser(_cookies(scope))

        async def send_with_cookie(message: Message) -> None:
            if not known and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                # once, with the page itself: what it loads beside each other would get several
                if headers.get("content-type", "").startswith("text/html"):
                    # lax, so that who comes by a link from elsewhere is still the same person
                    rules = f"Max-Age={_YEAR}; SameSite=Lax"
                    headers.append(
                        "Set-Cookie", _cookie(scope, COOKIE, secrets.token_hex(8), rules)
                    )
            await send(message)

        await self._app(scope, receive, send_with_cookie)


def _cookies(scope: Scope) -> str:
    return Headers(scope=scope).get("cookie", "")


def _cookie(scope: Scope, name: str, value: str, rules: str) -> str:
    """A cookie that scripts cannot read, and that stays on https where the page came by it."""
    by_proxy = Headers(scope=scope).get("x-forwarded-proto", "")
    secure = "; Secure" if "https" in (scope.get("scheme"), by_proxy) else ""
    return f"{name}={value}; Path=/; {rules}; HttpOnly{secure}"


def allowed_hosts(host: str, public_host: str | None = None) -> list[str]:
    """Host names of requests that are answered.

    Args:
        host: where the server listens; on every address, it answers to any name.
        public_host: the name by which browsers reach it; then it answers to no other from abroad.
    """
    address = _address(host)
    own = [] if address is not None and address.is_unspecified else [host]
    if not own and public_host is None:
        return ["*"]
    names = [*own, *([public_host] if public_host else []), "127.0.0.1", "localhost"]
    return list(dict.fromkeys(names))


def is_shared(host: str, public_host: str | None = None) -> bool:
    """Whether other machines can reach a server that listens there."""
    address = _address(host)
    loopback = host == "localhost" if address is None else address.is_loopback
    return public_host is not None or not loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The host as an address; None where it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def middleware(hosts: list[str]) -> list[Middleware]:
    """Security headers, and no response to other host names (DNS rebinding)."""
    return [
        Middleware(SecurityHeaders),
        Middleware(PersonCookie),
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
    ]


def routes(runner_pid: Callable[[], int | None], admin_token: str) -> list[Route]:
    """`/api/health`: whether the runner is up, and that this process has not loaded torch; and,
    where there is an admin, the link that makes a browser theirs."""

    async def health(_request: Request) -> JSONResponse:
        pid = runner_pid()
        return JSONResponse(
            {"status": "ok", "runner": pid is not None, "torch": "torch" in sys.modules}
        )

    async def admin(request: Request) -> Response:
        given = request.query_params.get("token", "")
        if not secrets.compare_digest(given.encode(), admin_token.encode()):
            text = "This link is no longer valid. The server prints a new one when it starts."
            return PlainTextResponse(text, status_code=403)
        response = RedirectResponse("/", status_code=303)
        cookie = _cookie(request.scope, ADMIN_COOKIE, given, "SameSite=Strict")
        response.headers.append("Set-Cookie", cookie)
        return response

    links = [Route(_ADMIN_PATH, admin)] if admin_token else []
    return [Route("/api/health", health), *links]


def admin_link(address: str, token: str) -> str:
    """The address that makes a browser the admin's."""
    return f"{address}{_ADMIN_PATH}?token={token}"
