"""What every test shares: folders of its own, and no time limit on an example."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from compression.paths import TIMING_VARIABLE, configure_process
from compression.runs.store import Store, open_store

# Programs that tests start compile no module that one before them has compiled, whatever the
# environment says: torch alone has thousands, and they would take most of such a test's time.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Programs that tests start inherit these: nothing of the person's own is read or written.
# The workers of one call share a cache, so that a model is exported once.
_FOLDER = os.environ.get("COMPRESSION_TESTS")
if _FOLDER is None:
    _FOLDER = os.environ["COMPRESSION_TESTS"] = tempfile.mkdtemp(prefix="compression-tests-")
    atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
os.environ["COMPRESSION_DATA"] = os.path.join(_FOLDER, f"data-{os.getpid()}")
os.environ["COMPRESSION_CACHE"] = os.path.join(_FOLDER, "cache")

# Several files are tested at once, and programs are started besides: a thread each, for torch's
# threads would wait for each other most of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ["COMPRESSION_THREADS"] = "1"

# Wider intervals of latency, and all else as it is.
os.environ[TIMING_VARIABLE] = "0.05"

configure_process()

# The machine may be busy with other things.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: no core waits at the end for the other's last one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store of the test's own."""
    return open_store(f"sqlite:///{tmp_path / 'runs.sqlite'}")
