"""A model as a float32 ONNX graph. Exported once per structure; after that only weights change."""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import warnings
from contextlib import suppress
from typing import Any

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compression.errors import NotExportable
from compression.export.onnx.constant_folding import fold_constants
from compression.models.input_quantizers import input_grids, remove_input_quantizers
from compression.models.parametrize import materialize
from compression.models.placement import evaluated, placed
from compression.models.widths import widths
from compression.paths import cache_dir, keep_newest, write_cached

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
# Without weights a graph takes some hundred kilobytes; every slider position of channels is one.
MOST_GRAPHS = 200
# Raised when what is written to the cache changes.
_FORMAT = 2
_MOST_IMAGES = 65_536


def float_graph(model: nn.Module, architecture: str, example: Tensor) -> onnx.ModelProto:
    """The model in float32, weights inside, from `images` [batch, 3, h, w] to `logits`.

    `architecture` names what the model is but for its weights and widths; of `example`
    [n, 3, h, w] only the shape counts. The batch is free, unless the exporter cannot leave it so;
    then it is that of `example`, see `fixed_batch`. Inputs held on grids are taken as they come.

    Raises:
        NotExportable: the exporter cannot follow the model.
    """
    model = ordinary(model)
    graph = onnx.ModelProto()
    graph.CopyFrom(structure(model, architecture, example))
    fill(graph, model)
    batch = fixed_batch(graph)
    properties = {"architecture": architecture, "opset": str(graph.opset_import[0].version)}
    properties["batch"] = "any" if batch is None else str(batch)
    helper.set_model_props(graph, properties)
    return graph


def fixed_batch(graph: onnx.ModelProto) -> int | None:
    """The only number of images that a graph takes, or None if it takes any."""
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0]
    return int(batch.dim_value) if batch.HasField("dim_value") else None


def ordinary(model: nn.Module) -> nn.Module:
    """The model itself if it is evaluated on the CPU, unquantized and unmasked; else such a copy:
    float32 kernels neither round inputs nor put weights on grids again in every call."""
    if any(parametrize.is_parametrized(m) for m in model.modules()):
        model = materialize(model)
    elif input_grids(model):
        model = copy.deepcopy(model)
    remove_input_quantizers(model)
    return evaluated(placed(model, "cpu", channels_last=False))


def structure(model: nn.Module, architecture: str, example: Tensor) -> onnx.ModelProto:
    """The graph with the entries of the state dict left empty, each an initializer by its name.

    From the cache when a model of that structure was exported before.

    Raises:
        NotExportable: the exporter cannot follow the model.
    """
    made_of = (architecture, tuple(example.shape[1:]), widths(model), _FORMAT)
    versions = f"{made_of}|{torch.__version__}|{onnx.__version__}"
    name = hashlib.sha256(versions.encode()).hexdigest()[:16]
    path = cache_dir() / "graphs" / f"{architecture.replace('/', '-')}-{name}.onnx"
    with suppress(OSError, ValueError, DecodeError):
        cached = onnx.load(path)
        os.utime(path)
        if fixed_batch(cached) in (None, len(example)):
            return cached
    graph = _exported(model, example)
    known = set(model.state_dict())
    fold_constants(graph, known)
    for tensor in graph.graph.initializer:
        if tensor.name in known:
            tensor.ClearField("raw_data")
    with suppress(OSError):
        write_cached(path, graph.SerializeToString())
        keep_newest(path.parent, "*.onnx", MOST_GRAPHS)
    return graph


def fill(graph: onnx.ModelProto, model: nn.Module) -> None:
    """Put the model's weights into the graph's empty initializers, in place."""
    state = model.state_dict()
    for tensor in graph.graph.initializer:
        if tensor.name in state:
            tensor.raw_data = state[tensor.name].detach().contiguous().numpy().tobytes()


def _exported(model: nn.Module, example: Tensor) -> onnx.ModelProto:
    # Not optimised by the exporter: then every initializer is an entry of the state dict by name,
    # so that weights can be put in without another export. The engine folds and fuses on loading.
    axes = ({0: torch.export.Dim(BATCH, min=1, max=_MOST_IMAGES)},)
    # Strides of channels last would be written down as gathers.
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    two = example[:1].expand(2, *example.shape[1:]).contiguous()
    try:
        return _export(model, two, dynamic_shapes=axes)
    except Exception:
        # What cannot be exported with a free batch may yet be with a fixed one.
        pass
    try:
        return _export(model, example)
    except Exception as error:
        # The exporter raises whatever the model's code meets; any of it means the same here.
        raise NotExportable(_reason(model, example, error)) from error


def _reason(model: nn.Module, example: Tensor, error: Exception) -> str:
    try:
        with torch.inference_mode():
            model(example.cpu())
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError):
        return f"the model does not take images of shape {list(example.shape[1:])}"
    return f"the model cannot be exported to ONNX ({type(error.__cause__ or error).__name__})"


def _export(model: nn.Module, example: Tensor, **how: Any) -> onnx.ModelProto:
    # What goes wrong here is told by what is raised.
    quiet = logging.getLogger("torch")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (example.to("cpu", torch.float32),),
                dynamo=True,
                optimize=False,
                verbose=False,
                external_data=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                **how,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None
    graph: onnx.ModelProto = program.model_proto
    return graph
