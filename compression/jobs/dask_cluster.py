"""Dask workers: how they are started, bounded, guarded and, if need be, killed."""

# mypy: allow-untyped-calls
# (distributed is not fully typed)

from __future__ import annotations

import logging
import os
import re
import signal
from pathlib import Path

import dask
from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed import Client, LocalCluster, Nanny, Security
from distributed.system import MEMORY_LIMIT

from compression.errors import CompressionError, InvalidInput

LEAST_MEMORY = 1_000_000_000
log = logging.getLogger("compression.jobs.runner")


def default_memory_limit(workers: int) -> int:
    """Bytes each of so many workers may use: together 60 % of the machine, at most 8 GB each; and
    never less than one can start in."""
    return max(LEAST_MEMORY, min(MEMORY_LIMIT * 6 // 10 // workers, 8_000_000_000))


def parse_memory(text: str) -> int:
    """Bytes of a memory limit such as `6GB`.

    Raises:
        InvalidInput: not a size, or too small for a worker to start in.
    """
    try:
        given = parse_bytes(text)
    except ValueError:
        given = 0
    if given < LEAST_MEMORY:
        raise InvalidInput("memory-limit", text, f"{gigabytes(LEAST_MEMORY)} or more, as 6GB")
    return int(given)


def gigabytes(count: float) -> str:
    """Bytes in words: 1.25 GB."""
    return f"{count / 1e9:.2f} GB"


def _configure() -> None:
    dask.config.set(
        {
            # A run that kills its worker would kill the next one too.
            "distributed.scheduler.allowed-failures": 0,
            # A worker between runs holds memory of its own accord; only the limit counts.
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": False,
            # A nanny restarts its own worker; a cluster that gives up on both after a while would
            # close a worker that was slow to start, and leave none.
            "distributed.deploy.lost-worker-timeout": "30d",
            "distributed.worker.multiprocessing-method": "spawn",
            # Dask has workers hand freed memory back to the system at once; fetching it again at
            # every training step made distillation more than twice as slow.
            "distributed.nanny.pre-spawn-environ": {},
            # It stops a worker a hundred times a second to see where it is, also while it is timed.
            "distributed.worker.profile.enabled": False,
            # These are served to whoever asks, without TLS: logs, tasks, call stacks.
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
        }
    )


def start_cluster(
    workers: int,
    memory_limit: int,
    *,
    threads: int | None = None,
    warm: str = "compression.jobs.preload",
) -> LocalCluster:
    """A scheduler and worker processes, a run at a time each, on free ports of the loopback
    address.

    Every connection among them is encrypted and needs the cluster's certificate, which is made here
    and is nowhere but in memory.

    Args:
        workers: how many.
        memory_limit: bytes that each may use.
        threads: of each worker; as `COMPRESSION_THREADS` says, or their share of the cores if None.
        warm: the module each worker imports before it takes work.

    Raises:
        CompressionError: no worker could be started.
    """
    _configure()
    given = str(threads or os.environ.get("COMPRESSION_THREADS") or max(1, CPU_COUNT // workers))
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tls://",
            security=Security.temporary(),
            memory_limit=memory_limit,
            dashboard_address=None,
            # Without a dashboard too there is a server for it; its port must be free.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            preload=[warm],
            env={"COMPRESSION_THREADS": given, "OMP_NUM_THREADS": given},
        )
    except (RuntimeError, OSError) as error:
        cause = error.__cause__ or error
        raise CompressionError(f"worker: it could not be started ({cause})") from error


def connect_to(
    scheduler: str,
    certificates: tuple[Path | None, Path | None, Path | None] = (None, None, None),
    insecure: bool = False,
) -> Client:
    """A client of a running cluster.

    Args:
        scheduler: its address, such as `tls://host:8786`.
        certificates: files of the authority's certificate, of ours and of its key, as PEM; those
            that are None are as Dask's own settings say.
        insecure: whether a scheduler without TLS will do.

    Raises:
        InvalidInput: it is without TLS, or there are no certificates.
        CompressionError: it cannot be reached, or takes other certificates.
    """
    names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
    files = {n: str(p) for n, p in zip(names, certificates, strict=True) if p is not None}
    secure = scheduler.startswith("tls://")
    if not secure and not insecure:
        raise InvalidInput("scheduler", scheduler, "tls://HOST:PORT, or any with --insecure")
    try:
        security = Security(require_encryption=secure, **files)
        if secure and security.get_connection_args("client")["ssl_context"] is None:
            raise InvalidInput("tls-ca", None, "certificates: --tls-ca, --tls-cert and --tls-key")
        return Client(scheduler, security=security)
    except (OSError, ValueError) as error:
        raise CompressionError(f"scheduler: {scheduler} cannot be used ({error})") from error


class Deaths(logging.Handler):
    """Remembers how worker processes ended, which Dask only logs; passes warnings on."""

    def __init__(self) -> None:
        super().__init__()
        self.endings: dict[int, str] = {}
        logger = logging.getLogger("distributed.nanny")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        pattern = r"Worker process (\d+) (was killed by signal (\d+)|exited .*)"
        ended = re.match(pattern, record.getMessage())
        if ended:
            number = int(ended[3] or 0)
            name = signal.Signals(number).name if number in set(signal.Signals) else ""
            self.endings[int(ended[1])] = f"{ended[2]} {name}".strip()
        elif record.levelno >= logging.WARNING:
            log.log(record.levelno, record.getMessage())


def kill_worker(dask_worker: Nanny) -> None:
    """Kill the process a nanny looks after; run by the nanny, which starts another."""
    if dask_worker.pid:
        os.kill(dask_worker.pid, signal.SIGKILL)
