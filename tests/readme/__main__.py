"""`python -m tests.readme`."""

from tests.readme.tables import main

if __name__ == "__main__":
    main()
