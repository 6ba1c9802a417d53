"""`python -m compression.cli`."""

from compression.cli.main import main

main()
