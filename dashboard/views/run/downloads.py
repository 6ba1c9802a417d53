"""The selected run as files to take along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import streamlit as st

from compression.runs.results import Exported, Measurement, Run
from compression.runs.store import Store
from dashboard.numbers import format as fmt
from dashboard.state import session
from dashboard.state.export_jobs import FILES, Making, file_name

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Form:
    """A kind of file: what it is for, how large a run says it is, or else about how much of the
    model's 32-bit numbers it takes."""

    title: str
    use: str
    bytes_: Callable[[Measurement], int | None]
    share: float = 1.0


FORMS = {
    "packed": Form(
        "Packed file",
        "The smallest. Loads in Python, with this program, as exactly the model measured here.",
        lambda m: m.artifact_bytes,
    ),
    "onnx": Form(
        "ONNX",
        "For ONNX Runtime, in any language, on a server, a phone or in a browser. 32-bit numbers.",
        lambda m: m.onnx_bytes,
    ),
    "onnx-int8": Form(
        "ONNX, int8",
        "The fastest on a processor. Weights under 8 bits run as int8 kernels: no faster, no "
        "smaller than 8 bits.",
        lambda m: m.int8_bytes,
        0.25,
    ),
    "pt2": Form(
        "PyTorch program",
        "For PyTorch alone, without this program: a .pt2 file as torch.export writes it. 32-bit "
        "numbers.",
        lambda m: None,
    ),
}


def section(run: Run) -> None:
    """A card for each kind of file."""
    if run.compressed is None:
        return
    with st.grid(4, min_column_width=190, key="files"):
        for name, form in FORMS.items():
            with st.container(border=True, height="stretch", vertical_alignment="distribute"):
                with st.container(gap="xsmall"):
                    st.markdown(f"**{form.title}**  \n{_size(run, run.compressed, name)}")
                    st.caption(form.use)
                    for said in _about(run, name):
                        st.caption(said)
                _button(run, name)
    st.caption(
        "The packed file is there at once. The others are made when asked for, in some seconds, "
        "and come as a .zip with a one-page description and a short script that runs the file."
    )


def _exported(run: Run, name: str) -> Exported | None:
    """What is known of the file: from when it was made here, or else from the run."""
    making = FILES.state_of(session.store().url, run.id, name)
    if making is not None and making.exported is not None:
        return making.exported
    return next((e for e in run.exported if e.format == name), None)


def _size(run: Run, measured: Measurement, name: str) -> str:
    exported, form = _exported(run, name), FORMS[name]
    exact = exported.file_bytes if exported else form.bytes_(measured)
    if exact is None:
        return f"About {fmt.size(round(form.share * measured.dense_bytes))}"
    return fmt.size(exact)


def _about(run: Run, name: str) -> list[str]:
    """How the file does against the measured model, where that was looked at."""
    exported = _exported(run, name)
    if exported is None:
        return []
    said = []
    if exported.agreement is not None:
        same = f"Same label as the measured model for {fmt.percent(exported.agreement)} of images"
        accuracy = f", accuracy {fmt.percent(exported.top1.value)}" if exported.top1 else ""
        said.append(f"{same}{accuracy}.")
    return [*said, *exported.notes]


def _button(run: Run, name: str) -> None:
    if name == "packed" and _stored(session.store().url, run.id):
        _download(name, file_name(run, name), partial(_packed, session.store(), run.id))
        return
    making = FILES.state_of(session.store().url, run.id, name)
    if making is None or making.state == "failed":
        _prepare(run, name, making)
    elif making.state == "ready" and making.path is not None:
        _download(name, making.path.name, making.path.read_bytes)
    else:
        wait = st.fragment(_wait, run_every=_POLL_SECONDS, key=f"wait_{name}")
        wait(run.id, name)


def _download(name: str, called: str, data: Callable[[], bytes]) -> None:
    st.download_button(
        "Download",
        data,
        file_name=called,
        mime="application/octet-stream",
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
        on_click=_ask,
        args=(run, name),
        width="stretch",
    )


def _ask(run: Run, name: str) -> None:
    FILES.ask(session.store().url, run, name)


def _wait(run_id: str, name: str) -> None:
    making = FILES.state_of(session.store().url, run_id, name)
    if making is None or making.state in ("ready", "failed"):
        st.rerun()
    said = f"Being made, {fmt.duration(making.seconds)}"
    if making.state == "waiting":
        said = "Waiting for another file"
    st.markdown(f":material/hourglass_top: {said}")


_FOUND: set[tuple[str, str]] = set()


def _stored(store_url: str, run_id: str) -> bool:
    """Whether the file is kept with the run. It never changes, so it is looked for once."""
    if (store_url, run_id) not in _FOUND and session.store().file(run_id) is not None:
        _FOUND.add((store_url, run_id))
    return (store_url, run_id) in _FOUND


def _packed(store: Store, run_id: str) -> bytes:
    return store.file(run_id) or b""
