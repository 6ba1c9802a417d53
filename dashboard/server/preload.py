"""Imports what the page needs while the server starts and the browser loads its own part."""

from __future__ import annotations

import gc
from threading import Thread

_importing: list[Thread] = []


def begin() -> None:
    """Start importing in a thread, once.

    Nothing else may import numpy or pandas before `wait` returns: Plotly fails on one that another
    thread is still importing.
    """
    if not _importing:
        _importing.append(Thread(target=_import, name="imports", daemon=True))
        _importing[0].start()


def wait() -> None:
    """Until everything is imported; at once where nothing was begun."""
    for thread in _importing:
        thread.join()


def _import() -> None:
    """Import the page, then leave it out of every later garbage collection.

    Streamlit collects after each run of the script; without freezing, polling tabs cost most of a
    core.
    """
    try:
        import pandas
        import plotly.graph_objects

        import dashboard.views.explore  # noqa: F401

        plotly.graph_objects.Figure(layout={"template": "plotly"})
        pandas.DataFrame()
    finally:
        gc.collect()
        gc.freeze()
