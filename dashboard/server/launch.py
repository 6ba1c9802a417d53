"""`compression-dashboard`: starts the page and, beside it, the process that does the runs."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import traceback
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compression.errors import CompressionError
from compression.paths import STORE_VARIABLE, cache_dir, configure_process
from compression.runs.store import open_store
from dashboard.server import preload
from dashboard.server.options import Options, choose_port, read_options
from dashboard.server.runner import Runner, lifespan
from dashboard.state.rules import Rules, set_rules

SCRIPT = Path(__file__).resolve().parents[1] / "app.py"


def _log_script_error(error: Exception) -> bool:
    """Keep the traceback in a file; the page shows one line."""
    import streamlit as st

    path = cache_dir() / "dashboard-errors.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            traceback.print_exception(error, file=log)
        where = f" Details are in {path}."
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
    token = secrets.token_urlsafe(32) if options.admin else ""
    shared = security.is_shared(options.host, options.public_host)
    set_rules(Rules(options.runs_per_person, token, shared))
    hosts = security.allowed_hosts(options.host, options.public_host)
    runner = Runner(store_url, options.workers, options.threads)
    shown = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{'localhost' if shown in ('0.0.0.0', '[::]') else shown}:{port}"
    public = f"https://{options.public_host}" if options.public_host else address

    def when_up() -> None:
        print(f"Compression Dashboard: {address}  (Ctrl+C stops it)", flush=True)
        if token:
            print(f"For the admin alone: {security.admin_link(public, token)}", flush=True)
        if not options.headless:
            webbrowser.open(address)

    app = st.App(
        SCRIPT,
        lifespan=lifespan(runner, when_up),
        routes=security.routes(lambda: runner.pid, token),
        middleware=security.middleware(hosts),
        on_script_error=_log_script_error,
    )
    sys.argv = [str(SCRIPT)]  # so that .streamlit/config.toml beside the page is the one read
    with _without_tracebacks():
        app.run(
            config={
                "server.address": options.host,
                "server.port": port,
                "server.headless": True,
                "server.allowedHosts": hosts,
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
