"""How each backend of the catalogue runs a model: one line in `RUNTIMES` for each.

A backend prepares calls: functions without arguments that run one batch. Precision is what the
name says, never what an engine would silently choose.
"""

from __future__ import annotations

import copy
import importlib.util
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from compression.catalogue.backends import BACKENDS, COMPILE, EAGER, INT8, ONNX
from compression.errors import NotExportable
from compression.export.onnx.float_graph import fixed_batch
from compression.export.onnx.sessions import session

Call = Callable[[], object]


@dataclass(frozen=True)
class BackendInput:
    """A model in the forms that backends take it in; a graph is made when it is first asked for.

    `model` has ordinary float32 weights and takes its inputs as they come. The graphs raise
    `NotExportable` where there is none.
    """

    model: nn.Module
    float_graph: Callable[[], onnx.ModelProto]
    int8_graph: Callable[[], onnx.ModelProto]


Prepare = Callable[[BackendInput, Tensor, int, str], Call]


@dataclass(frozen=True)
class Runtime:
    """How a backend runs a model: `engine` gives its name and version, `missing` why it cannot be
    used here, or None."""

    engine: Callable[[], str]
    prepare: Prepare
    missing: Callable[[], str | None] = lambda: None


def why_not(backend: str, device: str) -> str | None:
    """Why a backend cannot run on a device here; None if it can."""
    entry = BACKENDS[backend]
    if device not in entry.devices:
        return f"{entry.title} is not for {device}"
    return RUNTIMES[backend].missing()


def available(device: str) -> tuple[str, ...]:
    """The backends that can run on a device here."""
    return tuple(name for name in BACKENDS if why_not(name, device) is None)


def describe(backend: str, device: str) -> str:
    """What runs, with its version: what is written beside every figure."""
    engine = RUNTIMES[backend].engine()
    return f"{engine} {BACKENDS[backend].precision}" + ("" if device == "cpu" else f" on {device}")


# PyTorch


def _torch() -> str:
    return f"PyTorch {torch.__version__}"


def _eager(dtype: torch.dtype) -> Prepare:
    def prepare(subject: BackendInput, images: Tensor, _threads: int, device: str) -> Call:
        model = copy.deepcopy(subject.model).to(device, dtype)
        model = model.to(memory_format=torch.channels_last).eval()
        return _running(model, _on(images, device, dtype), "PyTorch")

    return prepare


def _on(images: Tensor, device: str, dtype: torch.dtype) -> Tensor:
    return images.to(device, dtype).to(memory_format=torch.channels_last)


def _running(model: Callable[[Tensor], object], x: Tensor, what: str) -> Call:
    """The call, once it has run.

    Raises:
        NotExportable: it does not run.
    """

    def call() -> object:
        with torch.inference_mode():
            return model(x)

    try:
        call()
        if x.is_cuda:
            torch.cuda.synchronize()
    except Exception as error:
        # kernels, compilers and drivers raise whatever they like; any of it means the same here
        raise NotExportable(f"{what} cannot run the model ({type(error).__name__})") from error
    return call


def _compile(subject: BackendInput, images: Tensor, _threads: int, device: str) -> Call:
    from torch._inductor import config as inductor

    model = copy.deepcopy(subject.model).to(device).to(memory_format=torch.channels_last).eval()
    # Without its caches, which may hold kernels of the original: compiling is to be timed.
    uncached = inductor.patch(force_disable_caches=True)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # no CUDA, it says
    with uncached, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(model, dynamic=False)
        return _running(compiled, _on(images, device, torch.float32), "torch.compile")


def forget_compiled() -> None:
    """Drop what was compiled: after a few models, PyTorch would quietly run more uncompiled."""
    torch._dynamo.reset()


def _compiler() -> str | None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) or shutil.which("clang++"):
        return None
    return f"torch.compile needs a C++ compiler, and {compiler} was not found"


def _sparse_kernels() -> str | None:
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA GPU here"
    if torch.cuda.get_device_capability() < (8, 0):
        return "this GPU has no 2:4 kernels"
    return None


def _semi_structured(subject: BackendInput, images: Tensor, _threads: int, device: str) -> Call:
    """Linear layers in 2:4 kernels (Mishra et al., 2021), float16; all others as they are."""
    from torch.sparse import to_sparse_semi_structured

    model = copy.deepcopy(subject.model).to(device, torch.float16).eval()
    put = 0
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and _is_two_of_four(layer.weight):
            sparse = to_sparse_semi_structured(layer.weight.detach())
            layer.weight = nn.Parameter(sparse, requires_grad=False)
            put += 1
    if not put:
        raise NotExportable(
            "no linear layer has its weights in a 2:4 pattern in the shapes that the kernels take"
        )
    return _running(model, _on(images, device, torch.float16), "PyTorch")


def _is_two_of_four(weight: Tensor) -> bool:
    """Whether of every four neighbours in a row two are zero, in a shape the kernels take."""
    rows, columns = weight.shape
    if rows % 32 or columns % 64:
        return False
    return bool(((weight.reshape(rows, -1, 4) != 0).sum(2) <= 2).all())


# ONNX Runtime


def _runtime() -> str:
    return f"ONNX Runtime {ort.__version__}"


def _onnx(subject: BackendInput, images: Tensor, threads: int, _device: str) -> Call:
    return running_session(subject.float_graph(), images, threads)


def _onnx_int8(subject: BackendInput, images: Tensor, threads: int, _device: str) -> Call:
    return running_session(subject.int8_graph(), images, threads)


def running_session(graph: onnx.ModelProto, images: Tensor, threads: int) -> Call:
    """A call that runs a graph on a batch of images, once it has run.

    Raises:
        NotExportable: ONNX Runtime cannot run the graph, or not on so many images.
    """
    _require_batch(graph, images)
    running = session(graph, threads)
    inputs = {running.get_inputs()[0].name: images.cpu().contiguous().numpy()}
    try:
        running.run(None, inputs)
    except Exception as error:
        # onnxruntime's exceptions share no public base class
        raise NotExportable(f"ONNX Runtime cannot run it ({type(error).__name__})") from error
    return lambda: running.run(None, inputs)


def _require_batch(graph: onnx.ModelProto, images: Tensor) -> None:
    fixed = fixed_batch(graph)
    if fixed not in (None, len(images)):
        raise NotExportable(f"the model was exported for {fixed} images, not for {len(images)}")


# OpenVINO


@cache
def _no_openvino() -> str | None:
    if importlib.util.find_spec("openvino") is not None:
        return None
    return f"OpenVINO is not installed; pip install '{BACKENDS['openvino'].pip_packages}'"


def _openvino_version() -> str:
    import openvino

    return f"OpenVINO {str(openvino.__version__).split('-')[0]}"


def _openvino(subject: BackendInput, images: Tensor, threads: int, _device: str) -> Call:
    return _in_openvino(subject.float_graph(), images, threads)


def _openvino_int8(subject: BackendInput, images: Tensor, threads: int, _device: str) -> Call:
    return _in_openvino(subject.int8_graph(), images, threads)


def _in_openvino(graph: onnx.ModelProto, images: Tensor, threads: int) -> Call:
    import openvino

    _require_batch(graph, images)
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # the cores are chosen by whoever times
        # without it OpenVINO computes in bfloat16 where the processor can
        "INFERENCE_PRECISION_HINT": "f32",
    }
    x = images.cpu().contiguous().numpy()
    try:
        core = openvino.Core()
        model = core.read_model(graph.SerializeToString())
        model.reshape(list(x.shape))
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        request.infer([x])
    except Exception as error:
        # openvino raises RuntimeError and its own kinds
        raise NotExportable(f"OpenVINO cannot run it ({type(error).__name__})") from error
    return lambda: request.infer([x], share_inputs=True)


RUNTIMES: dict[str, Runtime] = {
    EAGER: Runtime(_torch, _eager(torch.float32)),
    COMPILE: Runtime(_torch, _compile, _compiler),
    ONNX: Runtime(_runtime, _onnx),
    INT8: Runtime(_runtime, _onnx_int8),
    "openvino": Runtime(_openvino_version, _openvino, _no_openvino),
    "openvino-int8": Runtime(_openvino_version, _openvino_int8, _no_openvino),
    "float16": Runtime(_torch, _eager(torch.float16)),
    "bfloat16": Runtime(_torch, _eager(torch.bfloat16)),
    "2:4": Runtime(_torch, _semi_structured, _sparse_kernels),
}
