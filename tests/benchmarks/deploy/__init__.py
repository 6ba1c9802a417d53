"""What ships, and how fast it is, against other tools: `python -m tests.benchmarks.deploy`."""
