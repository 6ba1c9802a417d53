"""ONNX Runtime sessions on the CPU, and whether a graph gives the logits of the model."""

from __future__ import annotations

import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from compression.errors import NotExportable
from compression.models.placement import evaluated, placed


def session(
    graph: onnx.ModelProto | bytes, threads: int = 1, *, optimized_path: str | None = None
) -> ort.InferenceSession:
    """A graph ready to run on so many threads; what the engine made of it goes to a file if asked.

    Raises:
        NotExportable: ONNX Runtime cannot run the graph.
    """
    options = session_options(threads)
    if optimized_path is not None:
        options.optimized_model_filepath = optimized_path
    data = graph if isinstance(graph, bytes) else graph.SerializeToString()
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime's exceptions share no public base class, and protobuf has its own
        raise _refusal(error) from error


def predict_with(running: ort.InferenceSession, images: Tensor, batch: int = 256) -> Tensor:
    """Logits, float32 [n, classes], for prepared images float32 [n, 3, h, w].

    A graph that takes a fixed number of images is given that many; the last ones are filled up.

    Raises:
        NotExportable: ONNX Runtime cannot run the graph on these images.
    """
    images_input = running.get_inputs()[0]
    fixed = images_input.shape[0] if isinstance(images_input.shape[0], int) else None
    logits = []
    for part in images.split(fixed or batch):
        count = len(part)
        if fixed and count < fixed:
            part = torch.cat([part, part[-1:].expand(fixed - count, *part.shape[1:])])
        try:
            out = running.run(None, {images_input.name: part.cpu().contiguous().numpy()})[0]
        except Exception as error:
            raise _refusal(error) from error
        logits.append(torch.from_numpy(out)[:count])
    return torch.cat(logits)


def check(graph: onnx.ModelProto, model: nn.Module, images: Tensor) -> float:
    """Largest difference of a logit from PyTorch's, over the largest logit.

    Raises:
        NotExportable: ONNX Runtime cannot run the graph.
    """
    with torch.inference_mode():
        expected = evaluated(placed(model, "cpu", channels_last=False))(images)
    out = predict_with(session(graph), images, len(images))
    most = float(expected.abs().max())
    return float((out - expected).abs().max()) / (most or 1.0)


def _refusal(error: Exception) -> NotExportable:
    return NotExportable(f"ONNX Runtime cannot run the graph ({type(error).__name__})")


_QUIET = 3


def session_options(threads: int = 1) -> ort.SessionOptions:
    """So many threads, which sleep while they wait; what goes wrong is raised, not logged."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
