"""Latency in depth: measured on request, and shown when it is there."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from compression.catalogue.backends import INT8, title
from compression.errors import CompressionError
from compression.runs.latency_requests import FAILED, RUNNING
from compression.runs.results import LatencyReport, Roof, Run
from dashboard.figures import latency as figures
from dashboard.numbers import backend_timings, layer_times
from dashboard.numbers import format as fmt
from dashboard.state import session

_POLL_SECONDS = 1.0
_PROBLEM = "latency_problem"
_CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}
_WHAT = (
    "Times this model and the original in turns: in everything that can run them here, with small "
    "and large batches, with one thread and more, and layer by layer. It takes a minute or two, "
    "when no run is under way."
)


def section(run: Run) -> None:
    """What was measured, or the button that asks for it."""
    store = session.store()
    wish, report = store.latency_request(run.id), store.latency(run.id)
    failed = wish is not None and wish["state"] == FAILED
    if report is not None:
        _report(report)
    else:
        st.markdown(_WHAT)
    if wish is not None and not failed:
        st.fragment(_wait, run_every=_POLL_SECONDS, key="latency_wait")(run.id)
        return
    if wish is not None:
        st.error(f"It did not work. {wish['message']}", icon=":material/error:")
    _ask(run, again=failed or report is not None)


def _ask(run: Run, again: bool) -> None:
    st.button(
        "Measure again" if again else "Measure latency in depth",
        key="request_latency",
        icon=":material/speed:",
        type="secondary" if again else "primary",
        on_click=_want,
        args=(run.id,),
        disabled=run.stopped_early,
        help="A run that was stopped early cannot be made again to be timed."
        if run.stopped_early
        else None,
    )
    if problem := st.session_state.pop(_PROBLEM, None):
        st.error(problem, icon=":material/error:")


def _want(run_id: str) -> None:
    try:
        session.store().request_latency(run_id)
    except CompressionError as error:
        st.session_state[_PROBLEM] = str(error)


def _wait(run_id: str) -> None:
    """Look again until it is done; what it says changes when a worker takes it up."""
    try:
        wish = session.store().latency_request(run_id)
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")
        return
    if wish is None or wish["state"] == FAILED:
        st.rerun()
    said = "Measuring" if wish["state"] == RUNNING else "Waiting until no run is under way"
    message = f": {wish['message']}" if wish["message"] else ""
    st.markdown(f":material/hourglass_top: {said}{message}")


def _report(report: LatencyReport) -> None:
    """A tab for each question; only the open one is drawn."""
    answers = {"What runs it": _backends}
    if report.sweep:
        answers["Batches and threads"] = _sweep
    if report.layers:
        answers["Layer by layer"] = _layers
        if _limits(report):
            answers["Memory or arithmetic"] = _roofline
    if report.notes:
        answers["Notes"] = _notes
    tabs = st.tabs(list(answers), key="latency_tabs", on_change="rerun")
    for tab, answer in zip(tabs, answers.values(), strict=True):
        if tab.open:
            with tab:
                answer(report)


def _notes(report: LatencyReport) -> None:
    st.markdown("\n".join(f"- {note}" for note in report.notes))


def _chart(heading: str, said: str, name: str, figure: object) -> None:
    st.markdown(f"**{heading}**  \n{said}")
    st.plotly_chart(figure, key=f"latency_{name}", config=_CONFIG, alt=f"{heading}. {said}")


def _backends(report: LatencyReport) -> None:
    said = backend_timings.backends_notice(report.timings)
    if not report.timings:
        st.markdown(said)
        return
    _chart(
        "Time of one call, by what runs it",
        said,
        "backends",
        figures.backends_figure(report.timings),
    )
    st.dataframe(
        pd.DataFrame(backend_timings.table(report.timings)),
        hide_index=True,
        key="latency_table",
        height="content",
        column_config=_COLUMNS,
        alt="Times of both models in every backend",
    )
    st.caption(
        f"{backend_timings.how(report.timings)}. Lines reach to where 9 of 10 calls were faster. "
        f"In int8 the original still runs in 32-bit numbers. {backend_timings.load(report.timings)}"
    )


def _sweep(report: LatencyReport) -> None:
    lines = backend_timings.lines(report.sweep)
    said = backend_timings.sweep_notice(lines)
    _chart("Images a second, by batch size and threads", said, "sweep", figures.sweep_figure(lines))


def _layers(report: LatencyReport) -> None:
    said = layer_times.layers_notice(report.layers)
    where = f" in {title(report.layers_backend)}" if report.layers_backend else ""
    bars = layer_times.bars(report.layers)
    _chart(f"Time of each layer{where}", said, "layers", figures.layers_figure(bars))


def _limits(report: LatencyReport) -> tuple[Roof, ...]:
    """What the machine does at most, for the original's numbers and for the compressed model's."""
    kinds = ["float32", "int8"] if report.layers_backend == INT8 else ["float32"]
    found = (layer_times.roof_for(report.roofs, kind) for kind in kinds)
    return tuple(roof for roof in found if roof is not None)


def _roofline(report: LatencyReport) -> None:
    roofs = _limits(report)
    before = layer_times.spots(report.layers, roofs[0], compressed=False)
    after = layer_times.spots(report.layers, roofs[-1], compressed=True)
    if not before and not after:
        st.markdown("No layer could be held against what this machine does at most.")
        return
    _chart(
        "What holds each layer back: memory or arithmetic",
        layer_times.roof_notice(after),
        "roofline",
        figures.roofline_figure(before, after, roofs),
    )
    reached = " and ".join(
        f"{fmt.number(r.macs_per_second / 1e9)} billion {r.numbers} MACs" for r in roofs
    )
    st.caption(
        "A layer left of the bend waits for memory, right of it for arithmetic; the further below "
        "the line, the more of its time goes elsewhere. The lines are what a short test reached "
        f"on this machine with {fmt.threads(roofs[0].threads)}: {reached} a second, and "
        f"{fmt.number(roofs[0].bytes_per_second / 1e9)} GB a second."
    )


_text = st.column_config.TextColumn
_COLUMNS = {
    "Runs in": _text("Runs in", width=140, pinned=True),
    "Original": _text("Original", help="Median of all calls."),
    "Compressed": _text("Compressed", help="Median of all calls."),
    "Compressed, p90 / p99": _text(
        "Compressed, p90 / p99", help="9 of 10 calls, and 99 of 100, were faster than this."
    ),
    "Faster": _text("Faster", help="Original / compressed, with its 95 % interval."),
    "Noise": _text("Noise", help="The original against itself: what differs here is chance."),
    "Ready after": _text("Ready after", help="Exporting or compiling, once before the first call."),
}
