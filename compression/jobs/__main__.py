"""`python -m compression.jobs`."""

# Workers must find `_work` by name, so it is not in this module, which is called __main__.
from compression.jobs.runner import main

main()
