"""The original, which every method is compared with on the same images."""

from __future__ import annotations

from tests.benchmarks.peers.cells import Job, Made


def run(job: Job) -> Made:
    """As it is."""
    return Made(job.model)
