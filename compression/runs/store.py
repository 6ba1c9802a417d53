"""The store: the one truth shared by pages, workers and the command line."""

from __future__ import annotations

import time

from compression.errors import StoreError
from compression.paths import data_dir
from compression.runs.database import Database, connect
from compression.runs.documents import Curves, Documents, Facts, Files
from compression.runs.jobs import Job, Jobs, Kind
from compression.runs.latency_reports import LatencyReports
from compression.runs.migrations import bring_up_to_date
from compression.runs.records import REMOVED_SECONDS, Runs, new_run
from compression.runs.results import Run
from compression.runs.stored_run import StoredRun

__all__ = ["Job", "Kind", "Store", "StoredRun", "default_url", "new_run", "open_store"]


def default_url() -> str:
    """SQLite file in this person's data folder."""
    return f"sqlite:///{data_dir() / 'runs.sqlite'}"


class Store:
    """An open store: runs, what is to be done for them, and what is kept beside them.

    Safe to use from several threads and processes at once.
    """

    def __init__(self, database: Database) -> None:
        self.url = database.url
        self.runs = Runs(database)
        self.jobs = Jobs(database)
        self.files = Files(database)
        self.curves = Curves(database)
        self.certificates = Documents(database, "certificate", Run, "certificate")
        self.latency = LatencyReports(database)
        self.facts = Facts(database)


def open_store(url: str | None = None) -> Store:
    """Open a store, making it first if it is new, or bringing it up to date if it is older.

    Runs that were removed more than a day ago are deleted.

    Args:
        url: an SQLAlchemy URL; the SQLite file in the data folder if not given.

    Returns:
        The store, with its tables in place.

    Raises:
        StoreError: the URL is not one, nothing can be opened or written there, or it was written
            by a newer version of this program.

    Example:
        >>> from compression import Recipe, new_run, open_store
        >>> store = open_store("sqlite:///runs.sqlite")
        >>> store.runs.add(new_run("fashion-mnist/resnet18", "fashion-mnist", Recipe()))
        >>> [stored.run.model for stored in store.runs.find()]
        ['fashion-mnist/resnet18']
    """
    database = connect(url or default_url())
    try:
        bring_up_to_date(database)
    except StoreError:
        # Two processes may make the tables of a new store at once: then they are there by now.
        bring_up_to_date(database)
    store = Store(database)
    store.runs.delete_removed(time.time() - REMOVED_SECONDS)
    return store
