"""The selected run's size, counted in every usual way, and its speed-up analysis."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from compression.runs.results import Run
from dashboard.figures import dumbbell
from dashboard.numbers import size_and_speed

_CONFIG = {"displayModeBar": False}


def section(run: Run) -> None:
    """Key figures, size and speed, each with what to notice."""
    _key_figures(run)
    _size(run)
    _speed(run)


def _key_figures(run: Run) -> None:
    with st.grid(4, min_column_width=150):
        for figure, what in size_and_speed.counts(run):
            st.markdown(f"**{figure}**  \n:small[:gray[{what}]]")


def _size(run: Run) -> None:
    lines, notice = size_and_speed.sizes(run), size_and_speed.size_notice(run)
    st.markdown(f"**Size, counted in every usual way**  \n{notice}")
    st.plotly_chart(
        dumbbell.size_figure(lines),
        key="size_chart",
        config=_CONFIG,
        alt=f"Bytes of the original and of the compressed model. {notice}",
    )


def _speed(run: Run) -> None:
    speeds, notice = size_and_speed.speeds(run), size_and_speed.speed_notice(run)
    st.markdown(f"**Speed, expected and measured**  \n{notice}")
    # a single figure says nothing that the sentence does not
    if len(speeds) > 1 or any(speed.expected for speed in speeds):
        st.plotly_chart(
            dumbbell.speed_figure(speeds),
            key="speed_chart",
            config=_CONFIG,
            alt=f"Times as fast as the original, by backend. {notice}",
        )
    for heading, reasons in size_and_speed.reasons(speeds):
        st.markdown(_listed(heading, reasons))
    for sentence in size_and_speed.missing(run):
        st.caption(f":material/info: {sentence}")


def _listed(heading: str, reasons: Sequence[str]) -> str:
    if len(reasons) == 1:
        return f"{heading}: {reasons[0]}"
    return "\n".join([f"{heading}:", *(f"- {reason}" for reason in reasons)])
