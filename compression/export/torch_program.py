"""A model as a `torch.export` program, a .pt2 file: runs in PyTorch without this package.

`torch.export.load` may run code that a file names (it unpickles), so `open_program` is for files
that are known. What is written here holds no pickle, and no path of the machine it was made on.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from compression.errors import ArtifactError, NotExportable
from compression.models.parametrize import materialize

BATCH = "batch"
ABOUT = "about.json"
_MOST_IMAGES = 65_536
# What the exporter notes on every node of where in the sources it comes from.
_NOTED = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")

Predict = Callable[[Tensor], Tensor]


def write_program(model: nn.Module, example: Tensor, about: str = "") -> tuple[bytes, bool]:
    """The bytes of a .pt2 file, and whether it takes any number of images.

    The program gives the logits of the model, inputs on grids included, in float32 on the CPU.
    Of `example` [n, 3, h, w] only the shape counts. `about` is kept inside as it is.

    Raises:
        NotExportable: the exporter cannot follow the model.
    """
    # in the default layout: the program is for images that come in it
    plain = materialize(model).to("cpu").to(memory_format=torch.contiguous_format).eval()
    plain.requires_grad_(False)
    program, free = _exported(plain, torch.zeros(2, *example.shape[1:]))
    for node in program.graph.nodes:
        for key in _NOTED:
            node.meta.pop(key, None)
    program.example_inputs = None
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={ABOUT: about})
    return file.getvalue(), free


def _exported(model: nn.Module, two: Tensor) -> tuple[ExportedProgram, bool]:
    axes = ({0: Dim(BATCH, min=1, max=_MOST_IMAGES)},)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(model, (two,), dynamic_shapes=axes), True
        except Exception:
            # What cannot be exported with a free batch may yet be with one image.
            pass
        try:
            return torch.export.export(model, (two[:1],)), False
        except Exception as error:
            # The exporter raises whatever the model's code meets; any of it means the same here.
            kind = type(error).__name__
            raise NotExportable(f"the model cannot be exported as a program ({kind})") from error


def open_program(data: bytes) -> Predict:
    """The program of a .pt2 file.

    Only for files from a known source: opening one can run code that it names.

    Raises:
        ArtifactError: it is damaged, or not such a file.
    """
    try:
        with _silenced():
            run: Predict = torch.export.load(io.BytesIO(data)).module()
    except Exception as error:
        # zip, JSON and schema errors of all kinds
        raise ArtifactError(
            f"this is not a program that PyTorch {torch.__version__} can load, or it is damaged "
            f"({type(error).__name__})"
        ) from None
    return run


@contextmanager
def _silenced() -> Iterator[None]:
    """PyTorch prints a traceback about what it cannot load, besides raising it."""
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
