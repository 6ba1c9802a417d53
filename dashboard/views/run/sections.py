"""What is below the chart: sections of the selected run, closed until somebody opens them."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from compression.errors import CompressionError
from compression.runs.results import Run, State
from dashboard.views.run import details, downloads, latency, size_and_speed

Section = Callable[[Run], None]
# By key: title, icon, what is in it, and whether it needs measurements.
SECTIONS: dict[str, tuple[str, str, Section, bool]] = {
    "downloads": ("Download the model", "download", downloads.section, True),
    "size_and_speed": (
        "Where the size and the speed come from",
        "receipt_long",
        size_and_speed.section,
        True,
    ),
    "latency": ("Latency in depth", "speed", latency.section, True),
    "details": (
        "All figures, the recipe and the machine of this run",
        "list_alt",
        details.section,
        False,
    ),
}


def show(run: Run) -> None:
    """The sections of a run; those that need measurements only where there are some."""
    measured = run.state is State.DONE and run.compressed is not None
    with st.container(gap="small"):
        for key, (title, icon, section, needs) in SECTIONS.items():
            if measured or not needs:
                st.fragment(_section, key=f"fold_{key}")(key, title, icon, section, run)


def _section(key: str, title: str, icon: str, section: Section, run: Run) -> None:
    """Nothing is read from the store or drawn before it is opened."""
    expander = st.expander(title, key=key, icon=f":material/{icon}:", on_change="rerun")
    if expander.open:
        with expander:
            try:
                section(run)
            except CompressionError as error:
                st.error(str(error), icon=":material/error:")
