"""Who may hand work to a cluster: whoever has its certificate, and nobody else on the machine."""

# mypy: allow-untyped-calls

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster, Security

from compression.errors import CompressionError, InvalidInput
from compression.jobs import dask_cluster
from compression.jobs.dask_cluster import connect_to, start_cluster

# Another user of the machine: asks every address who it is, and the first to run a function.
ATTACK = """
import asyncio, os, sys
from distributed import Client, Security
from distributed.comm import connect

kind, *addresses = sys.argv[1:]
security = Security.temporary() if kind == "own certificate" else Security()
if os.geteuid() == 0:  # after the imports: that user may not read these files
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

async def identity(address):
    comm = await connect(address, timeout=3, **security.get_connection_args("client"))
    await comm.write({"op": "identity", "reply": True})
    answer = await comm.read()
    comm.abort()
    return "id" in answer

for address in addresses:
    try:
        print("told", asyncio.run(asyncio.wait_for(identity(address), 10)))
    except Exception as error:
        print("refused", type(error).__name__)
try:
    with Client(addresses[0], security=security, timeout=5) as client:
        print("ran as", client.submit(os.getuid).result(timeout=30))
except Exception as error:
    print("refused", type(error).__name__)
"""


def attack(kind: str, *addresses: str) -> list[str]:
    command = [sys.executable, "-c", ATTACK, kind, *addresses]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with start_cluster(1, 1_000_000_000, threads=3, warm="compression.errors") as cluster:
        yield cluster


def addresses_of(cluster: LocalCluster) -> list[str]:
    (worker,) = cluster.scheduler.workers.values()
    return [cluster.scheduler.address, worker.address, worker.nanny]


@pytest.mark.slow
def test_the_attack_works_where_there_is_no_guard() -> None:
    with LocalCluster(
        n_workers=1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        outcome = attack("none", cluster.scheduler.address)
    assert outcome == ["told True", f"ran as {os.getuid()}"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "own certificate"])
def test_another_user_can_make_none_of_its_processes_do_anything(
    cluster: LocalCluster, kind: str
) -> None:
    addresses = addresses_of(cluster)
    assert all(address.startswith("tls://127.0.0.1:") for address in addresses)
    if kind == "none":
        addresses = [address.replace("tls://", "tcp://") for address in addresses]
    outcome = attack(kind, *addresses)
    assert len(outcome) == 4
    assert all(line.startswith("refused") for line in outcome), outcome


def test_it_works_for_whoever_has_its_certificate(cluster: LocalCluster) -> None:
    with Client(cluster) as client:
        assert client.submit(os.getpid).result(timeout=60) != os.getpid()


def test_its_workers_have_the_threads_they_are_given(cluster: LocalCluster) -> None:
    with Client(cluster) as client:
        for name in ("COMPRESSION_THREADS", "OMP_NUM_THREADS"):
            assert client.submit(os.getenv, name).result(timeout=60) == "3"


def test_its_key_is_in_no_argument_and_no_variable(cluster: LocalCluster) -> None:
    key = cluster.security.tls_client_key
    with Client(cluster) as client:
        command, variables = client.submit(_seen_from_outside).result(timeout=60)
    assert "PRIVATE KEY" in key
    assert "PRIVATE KEY" not in command + variables


def _seen_from_outside() -> tuple[str, str]:
    about = Path("/proc/self")
    return (about / "cmdline").read_text(), (about / "environ").read_text()


@pytest.mark.parametrize(
    "page", ["info/main/workers.html", "json/identity.json", "metrics", "health", ""]
)
def test_it_tells_nothing_over_http(cluster: LocalCluster, page: str) -> None:
    port = cluster.scheduler.http_server.port
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10)


# A cluster that somebody else runs


def test_a_scheduler_without_tls_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(InvalidInput, match="allowed: tls://HOST:PORT, or any with --insecure"):
        connect_to("tcp://127.0.0.1:1")
    with (
        LocalCluster(
            n_workers=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
        ) as cluster,
        connect_to(cluster.scheduler.address, insecure=True) as client,
    ):
        assert client.submit(os.getpid).result(timeout=60) == os.getpid()


def test_a_scheduler_with_tls_needs_certificates(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--tls-ca, --tls-cert and --tls-key"):
        connect_to("tls://127.0.0.1:1")
    missing = tmp_path / "missing.pem"
    with pytest.raises(CompressionError, match="cannot be used"):
        connect_to("tls://127.0.0.1:1", (missing, missing, missing))


@pytest.mark.slow
def test_a_cluster_is_used_with_its_certificates(cluster: LocalCluster, tmp_path: Path) -> None:
    files = []
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        files.append(tmp_path / name)
        files[-1].write_text(getattr(cluster.security, name))
    with connect_to(cluster.scheduler.address, (files[0], files[1], files[2])) as client:
        assert client.submit(os.getpid).result(timeout=60) != os.getpid()
    other = Security.temporary()
    for path in files:
        path.write_text(getattr(other, path.name))
    with pytest.raises(CompressionError, match="cannot be used"):
        connect_to(cluster.scheduler.address, (files[0], files[1], files[2]))


@pytest.mark.parametrize(
    ("machine", "workers", "each"),
    [(64, 1, 8), (10, 1, 6), (32, 4, 4.8), (256, 8, 8), (4, 16, 1)],
)
def test_workers_share_the_memory_of_the_machine(
    machine: float, workers: int, each: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "MEMORY_LIMIT", int(machine * 1e9))
    assert dask_cluster.default_memory_limit(workers) == int(each * 1e9)
