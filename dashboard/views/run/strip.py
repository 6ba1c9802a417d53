"""The selected run in one strip: its name, accuracy, size and speed, or what became of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from compression.catalogue.backends import INT8
from compression.catalogue.cards import Card
from compression.runs.results import ACTIVE, Delta, Latency, Measurement, Run, State
from compression.runs.statistics import Ratio
from compression.runs.store import Kind, StoredRun
from dashboard.numbers import format as fmt
from dashboard.numbers.measures import MEASURES, timing_of
from dashboard.state import actions, address, people, session, stored
from dashboard.state.form import from_recipe
from dashboard.views.run.details import ICONS

HELP = {
    "accuracy": "Share of the validation images that get the right label. Beside it, the change "
    "from the original on the same images; grey when it may be chance.",
    "size": "Bytes of the packed file, which loads back as exactly the same model.",
    "speed": f"{MEASURES['speedup'].help} No clear change: the 95 % interval includes 1.",
    "int8": MEASURES["int8_speedup"].help,
}


def show(
    card: Card, entries: list[StoredRun], chosen: StoredRun | None, *, menus: bool = True
) -> None:
    """Draw the strip of the selected run, or of the original; nothing while neither is selected.

    Args:
        menus: whether it offers what can be done with the run.
    """
    if menus and actions.removed() is not None:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption("The run was deleted.")
            st.button("Undo", key="undo", type="tertiary", on_click=actions.restore)
    if chosen is None and not address.original_selected():
        return
    with st.container(border=True, key="strip", gap="xsmall"):
        if chosen is None:
            _original(card, entries)
            return
        _head(chosen, menus)
        _body(card, chosen)


def _original(card: Card, entries: list[StoredRun]) -> None:
    """The original's own figures, as the newest finished run measured them beside its own."""
    measured = next((e.run.baseline for e in reversed(entries) if e.run.baseline), None)
    st.markdown("**The original**")
    if measured is None:
        st.caption("It is measured beside each run; none has finished yet.")
        return
    with st.grid(4, min_column_width=104, gap="small", key="cards"):
        if measured.top1 is None:
            st.metric("Accuracy", fmt.DASH, help="It needs a data set.")
        else:
            help = f"On the validation images, {fmt.accuracy_interval(measured.top1)}."
            if card.test_top1 is not None:
                help += f" On the test images, {fmt.percent(card.test_top1.value)}."
            st.metric("Accuracy", fmt.percent(measured.top1.value), help=help)
        st.metric("File size", fmt.size(measured.artifact_bytes), help="In float32.")
        if measured.latency is None:
            st.metric("Latency", fmt.DASH)
        else:
            help = f"{fmt.how_timed(measured.latency)}, taken beside the newest run."
            st.metric("Latency", fmt.milliseconds(measured.latency.p50_ms), help=help)
        st.metric("Parameters", fmt.count(measured.parameters))


def _head(chosen: StoredRun, menus: bool) -> None:
    """Which run the figures are about, and a button that sets the sliders to its recipe."""
    run = chosen.run
    icon, colour = ICONS[run.state]
    fits, example = from_recipe(run.recipe, session.page().form), stored.example_of(run.id)
    badges = "" if run.state is State.DONE else f" :{colour}-badge[:material/{icon}: {run.state}]"
    if run.stopped_early:
        badges += " :orange-badge[:material/stop_circle: stopped early]"
    if example is not None:
        badges += " :violet-badge[:material/bookmark: example]"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        whose = fmt.asked_for_by(actions.asked_for_by(chosen))
        st.markdown(f"**{fmt.escaped(stored.name_of(chosen))}**{badges}{whose}", width="stretch")
        if not menus:
            return
        st.button(
            "Use these settings",
            key="use",
            icon=":material/tune:",
            type="tertiary",
            on_click=session.put_form,
            args=(fits,),
            disabled=fits is None,
            help="Sets the sliders to what this run had."
            if fits
            else "The sliders cannot express a recipe with this order or number of steps.",
        )
        with st.popover("More", icon=":material/more_vert:", type="tertiary", width="content"):
            _menu(chosen)


def _menu(chosen: StoredRun) -> None:
    """What can be done with the run itself."""
    run_id, runs, owns = chosen.run.id, stored.store().runs, actions.owns(chosen)
    if not owns:
        st.caption(people.ONLY_ITS_OWNER)
    st.session_state["run_name"] = chosen.name
    st.text_input(
        "Name",
        key="run_name",
        placeholder=chosen.title,
        max_chars=60,
        disabled=not owns,
        on_change=lambda: actions.change(lambda: runs.rename(run_id, st.session_state["run_name"])),
    )
    for key, on, verb, undo, icon, act in (
        ("pin", chosen.pinned, "Pin to the top", "Unpin", "keep", runs.pin),
        ("hide", chosen.hidden, "Hide", "Show again", "visibility_off", runs.hide),
    ):
        st.button(
            undo if on else verb,
            key=f"{key}_run",
            icon=f":material/{icon}:",
            on_click=actions.change,
            args=(partial(act, run_id, not on),),
            disabled=not owns,
            width="stretch",
        )
    st.button(
        "Delete",
        key="delete_run",
        icon=":material/delete:",
        on_click=actions.remove,
        args=(run_id,),
        disabled=not owns,
        width="stretch",
    )


def _body(card: Card, chosen: StoredRun) -> None:
    run = chosen.run
    if run.state is State.DONE and run.compressed is not None and run.delta is not None:
        _figures(run, run.compressed, run.delta)
    elif run.state in ACTIVE:
        st.caption("Its figures appear here when it has been measured.")
    elif run.state is State.FAILED:
        reason = run.notes[-1] if run.notes else "No reason was stored."
        st.error(f"**This run failed.** {reason}", icon=":material/error:")
        _again(card, chosen)
    elif run.state is State.CANCELLED:
        st.info("This run was cancelled before it was measured.", icon=":material/cancel:")
        _again(card, chosen)


def _again(card: Card, chosen: StoredRun) -> None:
    st.button(
        "Run it again",
        key="again",
        icon=":material/replay:",
        on_click=actions.queue,
        args=(card, chosen.run.recipe, chosen.device),
    )


def _figures(run: Run, measured: Measurement, delta: Delta) -> None:
    """Accuracy, size and speed beside each other, each against the original."""
    with st.grid(4, min_column_width=104, gap="small", key="cards"):
        _accuracy(measured, delta)
        _size(run, measured, delta)
        _speed(run, measured, delta)
        _int8(run)
    _busy(run)


def _busy(run: Run) -> None:
    """That the times may be off, and a button to take them again."""
    if not (MEASURES["speedup"].disturbed(run) or MEASURES["int8_speedup"].disturbed(run)):
        return
    job = stored.store().jobs.get(run.id, Kind.REMEASURE)
    if job is not None and job.state in ACTIVE:
        st.fragment(_remeasuring, run_every=1.0, key="remeasuring")(run.id)
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(
            ":orange[:material/warning: Latency was measured while the machine was busy; it may be "
            "off.]",
            width="stretch",
        )
        st.button(
            "Measure again",
            key="remeasure",
            icon=":material/speed:",
            type="tertiary",
            on_click=actions.change,
            args=(partial(stored.store().runs.request, run.id, Kind.REMEASURE),),
        )


def _remeasuring(run_id: str) -> None:
    job = stored.store().jobs.get(run_id, Kind.REMEASURE)
    if job is None or job.state not in ACTIVE:
        st.rerun()
    st.caption(":material/speed: Latency is measured again once no run is under way.")


def _accuracy(measured: Measurement, delta: Delta) -> None:
    if measured.top1 is None:
        st.metric("Accuracy", fmt.DASH, help=f"{HELP['accuracy']} It needs a data set.")
        return
    change: dict[str, Any] = {}
    help = f"{HELP['accuracy']} {fmt.accuracy_interval(measured.top1).capitalize()}."
    if delta.top1 is not None:
        help += f" Change, 95 % interval: {fmt.paired_interval(delta.top1)} points."
        clear = delta.top1.low > 0 or delta.top1.high < 0
        change = {
            "delta": fmt.points(delta.top1.value),
            "delta_color": ("green" if delta.top1.value > 0 else "red") if clear else "off",
            "delta_arrow": "off",
        }
    st.metric("Accuracy", fmt.percent(measured.top1.value), help=help, **change)


def _size(run: Run, measured: Measurement, delta: Delta) -> None:
    help = HELP["size"]
    if run.baseline is not None:
        help += f" From {fmt.size(run.baseline.artifact_bytes)}."
    change = {}
    if delta.size_ratio is not None:
        change = _chip(fmt.times_smaller(delta.size_ratio), delta.size_ratio)
    st.metric("File size", fmt.size(measured.artifact_bytes), help=help, **change)


def _speed(run: Run, measured: Measurement, delta: Delta) -> None:
    latency = measured.latency
    if latency is None:
        help = f"{HELP['speed']} It could not be measured; see the notes."
        st.metric("Latency", fmt.DASH, help=help)
        return
    compared = _ratio(f"{HELP['speed']} {fmt.how_timed(latency)}.", delta.latency_ratio, latency)
    st.metric("Latency", fmt.milliseconds(latency.p50_ms), **compared)


def _ratio(help: str, ratio: Ratio | None, timed: Latency) -> dict[str, Any]:
    """What a metric shows beside a latency: the factor where it is clear, its interval in the
    help; never a gain that was taken on a busy machine."""
    if ratio is None:
        return {"help": help}
    help += f" 95 % interval of the factor: {fmt.ratio_interval(ratio)}."
    if timed.on_busy_machine:
        return {"help": help, **_chip("machine was busy", 1.0)}
    if ratio.low <= 1 <= ratio.high:
        return {"help": help, **_chip("no clear change", 1.0)}
    return {"help": help, **_chip(fmt.times_faster(ratio.value), ratio.value)}


def _int8(run: Run) -> None:
    """The latency of the int8 graph, where it was timed."""
    timing = timing_of(run, INT8)
    if timing is None:
        st.metric("Latency as int8", fmt.DASH, help=f"{HELP['int8']} Not timed for this run.")
        return
    shown = fmt.milliseconds(timing.compressed.p50_ms)
    compared = _ratio(HELP["int8"], timing.ratio, timing.compressed)
    st.metric("Latency as int8", shown, **compared)


def _chip(text: str, ratio: float) -> dict[str, Any]:
    """The small coloured text beside a figure: green for a gain, red for a loss, grey for none."""
    colour = "off" if ratio == 1 else "green" if ratio > 1 else "red"
    return {"delta": text, "delta_color": colour, "delta_arrow": "off"}
