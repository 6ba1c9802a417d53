"""Security headers, the host names that are answered, and the health route."""

from __future__ import annotations

import ipaddress
import secrets
import sys
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request, cookie_parser
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.state.people import COOKIE

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
_COOKIE_RULES = "Path=/; Max-Age=31536000; HttpOnly; SameSite=Strict"
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
                    value = f"{COOKIE}={secrets.token_hex(8)}; {_COOKIE_RULES}"
                    headers.append("Set-Cookie", value)
            await send(message)

        await self._app(scope, receive, send_with_cookie)


def _cookies(scope: Scope) -> str:
    return Headers(scope=scope).get("cookie", "")


def allowed_hosts(host: str) -> list[str]:
    """Host names of requests that are answered; any, if it listens on every address."""
    try:
        if ipaddress.ip_address(host).is_unspecified:
            return ["*"]
    except ValueError:
        pass
    return list(dict.fromkeys([host, "127.0.0.1", "localhost"]))


def middleware(host: str) -> list[Middleware]:
    """Security headers, and no response to other host names (DNS rebinding)."""
    return [
        Middleware(SecurityHeaders),
        Middleware(PersonCookie),
        Middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts(host)),
    ]


def routes(runner_pid: Callable[[], int | None]) -> list[Route]:
    """`/api/health`: whether the runner is up, and that this process has not loaded torch."""

    async def health(_request: Request) -> JSONResponse:
        pid = runner_pid()
        return JSONResponse(
            {"status": "ok", "runner": pid is not None, "torch": "torch" in sys.modules}
        )

    return [Route("/api/health", health)]
