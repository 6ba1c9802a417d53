"""What makes, opens and runs a file of each format of the catalogue, by the same ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compression.catalogue.file_formats import FORMATS
from compression.errors import ArtifactError
from compression.export import make_file, open_file
from compression.export.make_file import ExportSource, MadeFile
from compression.export.open_file import Opened, graph_model_id, open_graph


@dataclass(frozen=True)
class Script:
    """How a script of its own runs such a file: what it imports, how it opens `file`, and the
    logits of the images put in place of %s, as an array."""

    imports: tuple[str, ...]
    open: str
    logits: str


@dataclass(frozen=True)
class Handler:
    """`make` gives a run's file, `open` what a file has in it for images of a shape [3, h, w],
    `model_id` the model a file says it was made of. `begins` recognises a file by its first bytes;
    ONNX graphs have no mark of their own."""

    make: Callable[[ExportSource], MadeFile]
    open: Callable[[bytes, tuple[int, ...]], Opened]
    model_id: Callable[[bytes], object]
    script: Script
    begins: Callable[[bytes], bool] | None = None


_ZIP = b"PK\x03\x04"
_TORCH = "model(torch.from_numpy(%s)).detach().numpy()"
_SESSION = Script(
    ("import onnxruntime",),
    "session = onnxruntime.InferenceSession(str(file))",
    'session.run(None, {"images": %s})[0]',
)
HANDLERS: dict[str, Handler] = {
    "packed": Handler(
        make_file.make_packed,
        open_file.open_packed,
        open_file.packed_model_id,
        Script(("import compression", "import torch"), "model = compression.load(file)", _TORCH),
        lambda data: data[8:9] == b"{" and data[:4] != _ZIP,
    ),
    "onnx": Handler(make_file.make_onnx, open_graph, graph_model_id, _SESSION),
    "onnx-int8": Handler(make_file.make_int8, open_graph, graph_model_id, _SESSION),
    "pt2": Handler(
        make_file.make_program,
        open_file.open_program_file,
        open_file.program_model_id,
        Script(("import torch",), "model = torch.export.load(file).module()", _TORCH),
        lambda data: data[:4] == _ZIP,
    ),
}


def format_of(data: bytes) -> str:
    """The id of a file's format, from how it begins; any ONNX graph is `onnx`."""
    begins = ((form, handler.begins) for form, handler in HANDLERS.items())
    return next((form for form, marked in begins if marked is not None and marked(data)), "onnx")


def model_of(data: bytes) -> str | None:
    """The id of the model that a file says it was made of. Nothing in it is run.

    Raises:
        ArtifactError: the file is foreign or damaged.
    """
    model = HANDLERS[format_of(data)].model_id(data)
    return model if isinstance(model, str) else None


def open_data(data: bytes, images: tuple[int, ...], trusted: bool) -> Opened:
    """What a file holds, to be run on images of a shape, [3, h, w].

    Args:
        data: The whole file, whoever made it.
        images: The shape of one image.
        trusted: Whether a file may be opened that can run code when it is loaded.

    Raises:
        ArtifactError: it is foreign, damaged, not for such images, or may run code and is not
            `trusted`.
    """
    form = format_of(data)
    if FORMATS[form].can_run_code and not trusted:
        raise ArtifactError(
            f"loading a {FORMATS[form].extension} file can run code that is inside it, and this "
            "one was not exported into this store; if you trust its source, pass --trust"
        )
    return HANDLERS[form].open(data, images)
