"""What Dask has every worker process import before it takes work."""

from __future__ import annotations

import os

from compression.paths import configure_process

NICENESS = 5


def dask_setup(_worker: object) -> None:
    """Called by Dask when a worker starts: warms it."""
    configure_process()
    import compression.jobs.worker  # noqa: F401 (with torch, which reads what was configured)

    # Pages and other people's programs go first.
    os.nice(NICENESS)
