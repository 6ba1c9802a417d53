"""`python -m compression.jobs`."""

from compression.jobs.command import main

main()
