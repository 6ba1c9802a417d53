"""Security headers, the host names that are answered, and the health route."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Headers:
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
        Middleware(Headers),
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
