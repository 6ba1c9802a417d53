"""Benchmarks: ratios within one run, never timed tests. Each prints its table."""
