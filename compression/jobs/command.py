"""`python -m compression.jobs --store URL`: run queued jobs until stopped.

It starts a scheduler and warm workers on the loopback address, which talk to each other encrypted
and only with a certificate made for this cluster and kept in memory: no other user of this machine
can hand them work. Or it uses a running cluster with `--scheduler tls://HOST:PORT`, and proves who
it is by the certificates that cluster was started with: `--tls-ca`, `--tls-cert` and `--tls-key`,
or Dask's own settings (`DASK_DISTRIBUTED__COMM__TLS__CA_FILE` and so on). A scheduler without TLS
does whatever anybody who reaches its port asks, so it is refused unless `--insecure` says that only
trusted programs reach it.

It ends in good order on SIGTERM or SIGINT, or when the pipe on its standard input closes, so that
it never outlives the program that started it.
"""

# mypy: allow-untyped-calls
# (distributed is not fully typed)

from __future__ import annotations

import logging
import os
import signal
import stat
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from distributed import Client

from compression.errors import CompressionError
from compression.jobs.dask_cluster import (
    Deaths,
    connect_to,
    default_memory_limit,
    kill_worker,
    parse_memory,
    start_cluster,
)
from compression.jobs.runner import Runner, serve
from compression.paths import configure_process
from compression.runs.store import open_store

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)


@app.command(help=__doc__)
def run(
    *,
    store: Annotated[str | None, typer.Option(help="Where runs are kept: a URL.")] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            envvar="COMPRESSION_MEMORY_LIMIT", help="Most memory a worker may use, such as 6GB."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of each worker; cores / workers if not given."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="A running cluster, such as tls://host:8786.")
    ] = None,
    tls_ca: Annotated[Path | None, typer.Option(help="Certificate of the authority.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="This program's certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The key of that certificate.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Take a scheduler without TLS.")
    ] = False,
) -> None:
    """Run queued jobs until stopped.

    Raises:
        CompressionError: the store, the memory limit or the cluster cannot be used.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _stop_with_parent(stop)
    workers = max(1, workers)
    limit = parse_memory(memory_limit) if memory_limit else default_memory_limit(workers)
    opened = open_store(store)
    with ExitStack() as stack:
        if scheduler is not None:
            certificates = (tls_ca, tls_cert, tls_key)
            client = stack.enter_context(connect_to(scheduler, certificates, insecure))
            serve(Runner(opened, client), stop)
            return
        deaths = Deaths()
        cluster = stack.enter_context(start_cluster(workers, limit, threads=threads))
        client = stack.enter_context(Client(cluster))
        serve(Runner(opened, client, deaths=deaths), stop)
        # Do not wait for what they are in the midst of: it has been given back.
        client.run(kill_worker, nanny=True, on_error="ignore")


def _stop_with_parent(stop: threading.Event) -> None:
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def watch() -> None:
        while os.read(0, 4096):
            pass
        stop.set()

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Entry point of `python -m compression.jobs`."""
    configure_process()
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    try:
        app(prog_name="compression.jobs", standalone_mode=False)
    except typer.TyperException as error:
        sys.exit(f"compression.jobs: {error.format_message()}")
    except (CompressionError, OSError) as error:
        sys.exit(f"compression.jobs: {error}")
