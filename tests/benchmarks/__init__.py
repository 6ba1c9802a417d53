"""Benchmarks: ratios within one run, never timed tests. Each prints its table."""

from compression.paths import configure_process

configure_process()
