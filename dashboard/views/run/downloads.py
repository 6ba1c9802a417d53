"""The selected run as files to download."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from compression.catalogue.file_formats import FORMATS
from compression.runs.results import Exported, Measurement, Run
from dashboard.numbers import format as fmt
from dashboard.state import stored
from dashboard.state.export_jobs import FILES, Making, file_name

_POLL_SECONDS = 1.0


def section(run: Run) -> None:
    """A card for each kind of file."""
    if run.compressed is None:
        return
    with st.grid(4, min_column_width=190, key="files"):
        for name, kind in FORMATS.items():
            with st.container(border=True, height="stretch", vertical_alignment="distribute"):
                with st.container(gap="xsmall"):
                    st.markdown(f"**{kind.label}**  \n{_size(run, run.compressed, name)}")
                    st.caption(kind.use)
                    for sentence in _about(run, name):
                        st.caption(sentence)
                _button(run, name)
    st.caption(
        "The packed file is ready at once. The others are made on request, within seconds, and "
        "come as a .zip with a one-page description and a short script that runs the file."
    )


def _exported(run: Run, name: str) -> Exported | None:
    """What was checked of the file: when it was made here, or else by the run."""
    making = FILES.state_of(stored.store().url, run.id, name)
    if making is not None and making.exported is not None:
        return making.exported
    return next((e for e in run.exported if e.format == name), None)


def _size(run: Run, measured: Measurement, name: str) -> str:
    exported, kind = _exported(run, name), FORMATS[name]
    exact = exported.file_bytes if exported else kind.measured_bytes(measured)
    if exact is None:
        return f"About {fmt.size(round(kind.share * measured.dense_bytes))}"
    return fmt.size(exact)


def _about(run: Run, name: str) -> list[str]:
    """How the file compares with the measured model, where that was checked."""
    exported = _exported(run, name)
    if exported is None:
        return []
    sentences = []
    if exported.agreement is not None:
        same = f"Same label as the measured model for {fmt.percent(exported.agreement)} of images"
        accuracy = f", accuracy {fmt.percent(exported.top1.value)}" if exported.top1 else ""
        sentences.append(f"{same}{accuracy}.")
    return [*sentences, *exported.notes]


def _button(run: Run, name: str) -> None:
    packed = stored.store().files.get(run.id) if name == "packed" else None
    if packed is not None:
        # Bytes keep their address when the page is drawn again; a callable's is good only once,
        # and a click just then would fail. Packed files are small enough.
        _download(name, file_name(run, name), packed)
        return
    making = FILES.state_of(stored.store().url, run.id, name)
    if making is None or making.state == "failed":
        _prepare(run, name, making)
    elif making.state == "ready" and making.path is not None:
        _download(name, making.path.name, making.path.read_bytes)
    else:
        wait = st.fragment(_wait, run_every=_POLL_SECONDS, key=f"wait_{name}")
        wait(run.id, name)


def _download(name: str, download_name: str, data: bytes | Callable[[], bytes]) -> None:
    st.download_button(
        "Download",
        data,
        file_name=download_name,
        mime=FORMATS[name].mime,
        key=f"download_{name}",
        icon=":material/download:",
        type="primary" if name == "packed" else "secondary",
        on_click="ignore",
        width="stretch",
    )


def _prepare(run: Run, name: str, failed: Making | None) -> None:
    if failed is not None:
        st.caption(f":red[:material/error: {failed.message}]")
    st.button(
        "Try again" if failed else "Make the file",
        key=f"make_{name}",
        icon=":material/build:",
        on_click=_request,
        args=(run, name),
        width="stretch",
    )


def _request(run: Run, name: str) -> None:
    FILES.ask(stored.store().url, run, name)


def _wait(run_id: str, name: str) -> None:
    making = FILES.state_of(stored.store().url, run_id, name)
    if making is None or making.state in ("ready", "failed"):
        st.rerun()
    status = f"Being made, {fmt.duration(making.seconds)}"
    if making.state == "waiting":
        status = "Waiting for another file"
    st.markdown(f":material/hourglass_top: {status}")
