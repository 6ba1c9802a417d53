"""`python -m compression.cli`."""

from compression.cli import main

main()
