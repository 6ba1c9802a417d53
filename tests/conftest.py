"""What every test shares: folders of its own, and no time limit on an example."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from compression.paths import configure_process
from compression.runs.store import Store, open_store

# Programs that tests start inherit these: nothing of the person's own is read or written.
_FOLDER = tempfile.mkdtemp(prefix="compression-tests-")
os.environ["COMPRESSION_DATA"] = os.path.join(_FOLDER, "data")
os.environ["COMPRESSION_CACHE"] = os.path.join(_FOLDER, "cache")

# Several files are tested at once, and programs are started besides: a thread each, for torch's
# threads would wait for each other most of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = os.environ["COMPRESSION_THREADS"] = "1"

configure_process()

# The machine may be busy with other things.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store of the test's own."""
    return open_store(f"sqlite:///{tmp_path / 'runs.sqlite'}")
