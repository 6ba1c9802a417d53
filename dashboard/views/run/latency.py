"""Latency in depth: measured on request, and shown once it has been."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from compression.catalogue.backends import INT8, title
from compression.errors import CompressionError
from compression.runs.results import ACTIVE, LatencyReport, Roof, Run, State
from compression.runs.store import Kind
from dashboard.figures import latency as figures
from dashboard.figures.layers import layers_figure, roofline_figure
from dashboard.figures.style import CONFIG
from dashboard.numbers import backend_timings, layer_times
from dashboard.numbers import format as fmt
from dashboard.state import stored

_POLL_SECONDS = 1.0
_PROBLEM = "latency_problem"
_WHAT = (
    "Times this model and the original with interleaved calls: in every backend that runs here, "
    "with small and large batches, with one thread and more, and layer by layer. It takes a minute "
    "or two, once no run is under way."
)


def section(run: Run) -> None:
    """What was measured, or the button that requests it."""
    store = stored.store()
    job, report = store.jobs.get(run.id, Kind.LATENCY), store.latency.get(run.id)
    failed = job is not None and job.state is State.FAILED
    if report is not None:
        _report(report)
    else:
        st.markdown(_WHAT)
    if job is not None and job.state in ACTIVE:
        st.fragment(_wait, run_every=_POLL_SECONDS, key="latency_wait")(run.id)
        return
    if job is not None and failed:
        st.error(f"The measurement failed. {job.message}", icon=":material/error:")
    _button(run, again=failed or report is not None)


def _button(run: Run, again: bool) -> None:
    gone = run.stopped_early and not stored.store().files.has(run.id)
    st.button(
        "Measure again" if again else "Measure latency in depth",
        key="request_latency",
        icon=":material/speed:",
        type="secondary" if again else "primary",
        on_click=_request,
        args=(run.id,),
        disabled=gone,
        help="Its file was not kept, and a run that was stopped early cannot be repeated."
        if gone
        else None,
    )
    if problem := st.session_state.pop(_PROBLEM, None):
        st.error(problem, icon=":material/error:")


def _request(run_id: str) -> None:
    try:
        stored.store().latency.request(run_id)
    except CompressionError as error:
        st.session_state[_PROBLEM] = str(error)


def _wait(run_id: str) -> None:
    """Show the state of the request until it is done, then draw the page again."""
    try:
        job = stored.store().jobs.get(run_id, Kind.LATENCY)
    except CompressionError as error:
        st.error(str(error), icon=":material/error:")
        return
    if job is None or job.state not in ACTIVE:
        st.rerun()
    status = "Waiting until no run is under way" if job.state is State.QUEUED else "Measuring"
    if job.progress is not None:
        status += f": {job.progress.stage}, {100 * job.progress.fraction:.0f} % done"
    st.markdown(f":material/hourglass_top: {status}")


def _report(report: LatencyReport) -> None:
    """A tab for each question; only the open one is drawn."""
    contents = {"Backends": _backends}
    if report.sweep:
        contents["Batches and threads"] = _sweep
    if report.layers:
        contents["Layer by layer"] = _layers
        if _limits(report):
            contents["Memory or compute"] = _roofline
    if report.notes:
        contents["Notes"] = _notes
    tabs = st.tabs(list(contents), key="latency_tabs", on_change="rerun")
    for tab, content in zip(tabs, contents.values(), strict=True):
        if tab.open:
            with tab:
                content(report)


def _notes(report: LatencyReport) -> None:
    st.markdown("\n".join(f"- {note}" for note in report.notes))


def _chart(heading: str, notice: str, name: str, figure: object) -> None:
    st.markdown(f"**{heading}**  \n{notice}")
    st.plotly_chart(figure, key=f"latency_{name}", config=CONFIG, alt=f"{heading}. {notice}")


def _backends(report: LatencyReport) -> None:
    notice = backend_timings.backends_notice(report.timings)
    if not report.timings:
        st.markdown(notice)
        return
    _chart(
        "Latency by backend",
        notice,
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
        f"{backend_timings.how(report.timings)}. Lines reach to the 90th percentile. "
        f"In int8 the original still runs in float32. {backend_timings.load(report.timings)}"
    )


def _sweep(report: LatencyReport) -> None:
    lines = backend_timings.lines(report.sweep)
    notice = backend_timings.sweep_notice(lines)
    _chart("Throughput by batch size and threads", notice, "sweep", figures.sweep_figure(lines))


def _layers(report: LatencyReport) -> None:
    notice = layer_times.layers_notice(report.layers)
    where = f" in {title(report.layers_backend)}" if report.layers_backend else ""
    bars = layer_times.bars(report.layers)
    _chart(f"Time of each layer{where}", notice, "layers", layers_figure(bars))


def _limits(report: LatencyReport) -> tuple[Roof, ...]:
    """The machine's limits in the dtypes of the original and of the compressed model."""
    dtypes = ["float32", "int8"] if report.layers_backend == INT8 else ["float32"]
    roofs = (layer_times.roof_for(report.roofs, dtype) for dtype in dtypes)
    return tuple(roof for roof in roofs if roof is not None)


def _roofline(report: LatencyReport) -> None:
    roofs = _limits(report)
    before = layer_times.spots(report.layers, roofs[0], compressed=False)
    after = layer_times.spots(report.layers, roofs[-1], compressed=True)
    if not before and not after:
        st.markdown("No layer could be compared with this machine's limits.")
        return
    _chart(
        "What limits each layer: memory or compute",
        layer_times.roof_notice(after),
        "roofline",
        roofline_figure(before, after, roofs),
    )
    reached = " and ".join(
        f"{fmt.number(r.macs_per_second / 1e9)} billion {r.numbers} MACs" for r in roofs
    )
    st.caption(
        "A layer left of the bend is memory-bound, right of it compute-bound; the further below "
        "the line, the more of its time is overhead. The lines are what a short test reached on "
        f"this machine with {fmt.threads(roofs[0].threads)}: {reached} per second, and "
        f"{fmt.number(roofs[0].bytes_per_second / 1e9)} GB per second."
    )


_text = st.column_config.TextColumn
_COLUMNS = {
    "Backend": _text("Backend", width=140, pinned=True),
    "Original": _text("Original", help="Median of all calls."),
    "Compressed": _text("Compressed", help="Median of all calls."),
    "Compressed, p90 / p99": _text(
        "Compressed, p90 / p99", help="9 of 10 calls, and 99 of 100, were faster than this."
    ),
    "Faster": _text("Faster", help="Original / compressed, with its 95 % interval."),
    "Noise": _text("Noise", help="The original timed against itself: any difference is chance."),
    "Ready after": _text("Ready after", help="Exporting or compiling, once before the first call."),
}
