"""A file of a model, whoever made it, as something that classifies images."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime as ort
import torch
from torch import Tensor

from compression.catalogue.file_formats import FORMATS
from compression.data.splits import BATCH
from compression.errors import ArtifactError, NotExportable
from compression.export.onnx.claims import check_constants
from compression.export.onnx.sessions import predict_with, session
from compression.export.packed.file import details, unpack
from compression.export.torch_program import ABOUT, open_program

# What an ONNX graph that we wrote says of itself begins so.
MARK = "compression."
_QUANTIZED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger")
_LONGEST = 120
_MOST_ABOUT = 1 << 16

Call = Callable[[], object]


@dataclass(frozen=True)
class Opened:
    """`predict` takes prepared images, float32 [n, 3, h, w], and gives logits [n, classes];
    `call` makes a function that runs one batch on so many threads. `batch` is the only number of
    images it takes, None if any.
    """

    format: str
    engine: str
    predict: Callable[[Tensor], Tensor]
    call: Callable[[Tensor, int], Call]
    batch: int | None = None


def packed_model_id(data: bytes) -> object:
    """The id of the model that a packed file says it was made of, if it says so.

    Raises:
        ArtifactError: the file is foreign or damaged.
    """
    return details(data).get("model")


def graph_model_id(data: bytes) -> object:
    """The id of the model that an ONNX graph says it was made of, if it says so.

    Raises:
        ArtifactError: the file is foreign or damaged.
    """
    return {p.key: p.value for p in _parse(data).metadata_props}.get(f"{MARK}model")


def program_model_id(data: bytes) -> object:
    """The id of the model that a program says it was made of, if it says so; no code is run."""
    return _about(data).get("model")


def _about(data: bytes) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            name = next((n for n in file.namelist() if n.endswith(f"/{ABOUT}")), None)
            if name is None or file.getinfo(name).file_size > _MOST_ABOUT:
                return {}
            about = json.loads(file.read(name))
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError):
        # damage is reported when the file is opened
        return {}
    return about if isinstance(about, dict) else {}


def open_packed(data: bytes, images: tuple[int, ...]) -> Opened:
    """A packed file, for images of a shape [3, h, w].

    Raises:
        ArtifactError: it is damaged, or not for such images.
    """
    run = _checked(unpack(data).to(memory_format=torch.channels_last), images)
    return Opened(
        "packed",
        _engine("packed"),
        lambda x: _in_parts(run, x.to(memory_format=torch.channels_last), None),
        lambda x, _: _eager(run, x.to(memory_format=torch.channels_last)),
    )


def open_program_file(data: bytes, images: tuple[int, ...]) -> Opened:
    """A torch.export program, for images of a shape [3, h, w]. Loading it can run code in it.

    Raises:
        ArtifactError: it is damaged, or not for such images.
    """
    run = open_program(data)
    batch = None
    try:
        run = _checked(run, images, 3)
    except ArtifactError:
        run, batch = _checked(run, images), 1
    return Opened(
        "pt2",
        _engine("pt2"),
        lambda x: _in_parts(run, x, batch),
        lambda x, _: _eager(run, x),
        batch,
    )


def _checked(
    run: Callable[[Tensor], Any], images: tuple[int, ...], count: int = 1
) -> Callable[[Tensor], Tensor]:
    """The function itself, once it has run.

    Raises:
        ArtifactError: it cannot take such images.
    """
    try:
        with torch.inference_mode():
            logits = run(torch.zeros(count, *images))
    except Exception as error:
        # whatever the model's own code meets
        raise ArtifactError(
            f"the model in the file cannot take images of {_shown(images)} ({type(error).__name__})"
        ) from None
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ArtifactError("the model in the file does not give a number for each class")
    return run


def _in_parts(run: Callable[[Tensor], Tensor], images: Tensor, batch: int | None) -> Tensor:
    with torch.inference_mode():
        return torch.cat([run(part).float() for part in images.split(batch or BATCH)])


def _eager(run: Callable[[Tensor], Tensor], images: Tensor) -> Call:
    def call() -> object:
        with torch.inference_mode():
            return run(images)

    return call


def _engine(form: str) -> str:
    name = f"ONNX Runtime {ort.__version__}" if "onnx" in form else f"PyTorch {torch.__version__}"
    return f"{name} {FORMATS[form].dtype}"


# ONNX


def open_graph(data: bytes, images: tuple[int, ...]) -> Opened:
    """An ONNX graph, whoever made it, for images of a shape [3, h, w].

    Raises:
        ArtifactError: it is no such graph, damaged, or not for such images.
    """
    graph = _parse(data)
    check_constants(graph, len(data))
    running = _session(data, 1)
    batch = _check_input(running, images)
    form = "onnx-int8" if any(n.op_type in _QUANTIZED for n in graph.graph.node) else "onnx"

    def predict(x: Tensor) -> Tensor:
        try:
            return predict_with(running, x, BATCH)
        except Exception as error:
            # onnxruntime's exceptions share no public base class
            raise ArtifactError(f"ONNX Runtime cannot run it: {_short(error)}") from None

    def call(x: Tensor, threads: int) -> Call:
        timed = _session(data, threads)
        inputs = {timed.get_inputs()[0].name: x.contiguous().numpy()}
        return lambda: timed.run(None, inputs)

    return Opened(form, _engine(form), predict, call, batch)


def _parse(data: bytes) -> onnx.ModelProto:
    try:
        graph = onnx.load_model_from_string(data)
    except Exception:
        # protobuf's own error, for which there are no types
        graph = onnx.ModelProto()
    if not graph.graph.node or not graph.graph.output:
        known = ", ".join(dict.fromkeys(f"{f.title} ({f.extension})" for f in FORMATS.values()))
        raise ArtifactError(f"this is not a file of a model, or it is damaged; known are: {known}")
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in graph.graph.initializer):
        raise ArtifactError("the graph keeps its weights in another file; save it as one file")
    return graph


def _session(data: bytes, threads: int) -> ort.InferenceSession:
    try:
        return session(data, threads)
    except NotExportable as error:
        raise ArtifactError(f"ONNX Runtime cannot load it: {_short(error)}") from None


def _short(error: BaseException) -> str:
    """The reason in a message of ONNX Runtime, without its codes, sources and further lines."""
    text = str(error.__cause__ or error).strip().split("\n")[0].split(" : ")[-1]
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _check_input(running: ort.InferenceSession, images: tuple[int, ...]) -> int | None:
    """How many images it takes at once, None if any.

    Raises:
        ArtifactError: its input is not float32 images of that shape, channels first.
    """
    inputs = running.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(str(i.name) for i in inputs[:4]) or "none"
        raise ArtifactError(f"the graph has {len(inputs)} inputs ({names}), allowed: one")
    (given,) = inputs
    dims = list(given.shape)
    free = dims[0] if dims and isinstance(dims[0], int) else "batch"
    wanted = (free, *images)
    fits = len(dims) == 4 and all(
        have == want or not isinstance(have, int) for have, want in zip(dims, wanted, strict=True)
    )
    if given.type != "tensor(float)" or not fits:
        raise ArtifactError(
            f"the graph takes {given.type} {_shown(dims)}, allowed: tensor(float) {_shown(wanted)}"
        )
    return None if free == "batch" else int(free)


def _shown(dims: Any) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"
