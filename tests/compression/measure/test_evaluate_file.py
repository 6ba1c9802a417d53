"""Files of models, ours and others': what they reach, and what is refused in one line."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compression.data.datasets import FASHION_MNIST, MEAN, STD, load_dataset
from compression.errors import ArtifactError, InvalidInput
from compression.export.handlers import format_of, model_of
from compression.measure import cpu_pinning
from compression.measure.accuracy import agreement, flips, predict
from compression.measure.cpu_pinning import MachineLoad
from compression.measure.evaluate_file import evaluate
from compression.models.load import load_model
from compression.runs.format import busy_note
from compression.runs.results import Evaluation
from compression.runs.statistics import proportion
from tests.compression.exported import MODEL, measured, packed


@pytest.mark.slow
def test_a_packed_file_is_held_against_the_original_it_names(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"  # what it is is seen from what it holds
    path.write_bytes(packed())
    found = evaluate(path)
    assert found == Evaluation.model_validate_json(found.model_dump_json())
    assert (found.file, found.format, found.model) == ("model.bin", "packed", MODEL)
    assert (found.dataset, found.split) == ("fashion-mnist", "validation")
    assert found.file_bytes == path.stat().st_size
    assert found.top1 == proportion(int(measured().right.sum()), 5_000)
    before = predict(load_model(MODEL), load_dataset("fashion-mnist").validation)
    changed = flips(before, measured())
    assert found.flips == changed and found.change is not None
    assert found.agreement == pytest.approx(agreement(before, measured()))
    lost = changed.wrong_to_right - changed.right_to_wrong
    assert found.change.value == pytest.approx(lost / 5_000)


# Graphs of others: one linear layer on all pixels, taught by least squares, by its own names.


@cache
def weights() -> tuple[np.ndarray, np.ndarray]:
    """A linear classifier of prepared images, by ridge regression on calibration images."""
    split = load_dataset("fashion-mnist").calibration
    x = torch.nn.functional.pad(FASHION_MNIST(split.images).flatten(1), (0, 1), value=1.0).double()
    y = torch.nn.functional.one_hot(split.labels, 10).double()
    solved = torch.linalg.solve(x.T @ x + 1e3 * torch.eye(x.shape[1]).double(), x.T @ y)
    return solved[:-1].float().numpy(), solved[-1].float().numpy()


def linear(
    shape: tuple[Any, ...] = ("n", 3, 32, 32),
    *,
    pixels: int = 3072,
    classes: int = 10,
    kind: int = TensorProto.FLOAT,
    raw: bool = False,
    inputs: int = 1,
    rows: int = -1,
) -> onnx.ModelProto:
    """A graph with an input of a shape and type; with `raw`, it prepares pixels itself."""
    given = [helper.make_tensor_value_info(f"pixels{i}", kind, shape) for i in range(inputs)]
    weight, bias = weights()
    tensors = {
        "weight": weight[:pixels, :classes],
        "bias": bias[:classes],
        "mean": np.float32(MEAN),
        "std": np.float32(STD),
        "flat": np.array([rows, 3072]),
    }
    nodes = [
        helper.make_node("Cast", ["pixels0"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Reshape", ["scaled" if raw else "x", "flat"], ["row"]),
        helper.make_node("Gemm", ["row", "weight", "bias"], ["score"]),
    ]
    wide = [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()]
    out = helper.make_tensor_value_info("score", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "theirs", given, [out], wide)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def put(tmp_path: Path) -> Callable[[onnx.ModelProto | bytes], Path]:
    def write(content: onnx.ModelProto | bytes) -> Path:
        path = tmp_path / "theirs.onnx"
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return path

    return write


def accuracy(split: str = "validation") -> float:
    """Of the linear classifier, without any graph."""
    images = load_dataset("fashion-mnist").split(split)
    weight, bias = weights()
    scores = FASHION_MNIST(images.images).flatten(1).numpy() @ weight + bias
    return float((scores.argmax(1) == images.labels.numpy()).mean())


@pytest.mark.slow
def test_a_latency_on_a_busy_machine_is_marked_and_said_to_be(
    put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, busy in ((1e-12, True), (1e12, False)):
        monkeypatch.setattr(cpu_pinning, "LIMITS", MachineLoad(limit, limit, limit, limit))
        found = evaluate(put(linear()))
        assert found.latency is not None and found.latency.on_busy_machine is busy
        assert (busy_note("it") in found.notes) is busy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("graph", "asked", "batch"),
    [
        (linear(), {}, 1),
        (linear((8, 3, 32, 32)), {"threads": 2, "model": MODEL}, 8),
        (linear(("n", 3, "h", "w"), raw=True), {"inputs": "raw", "split": "test"}, 1),
    ],
    ids=["free", "fixed batch", "raw"],
)
def test_a_graph_of_somebody_else_is_measured(
    graph: onnx.ModelProto, asked: dict[str, Any], batch: int, put: Callable[..., Path]
) -> None:
    found = evaluate(put(graph), **asked)
    split = asked.get("split", "validation")
    assert found.top1 is not None and found.latency is not None
    assert accuracy(split) > 0.6
    assert found.top1.value == pytest.approx(accuracy(split), abs=2 / found.top1.n)
    assert found.top1.n == (10_000 if split == "test" else 5_000)
    assert (found.format, found.model) == ("onnx", asked.get("model"))
    assert (found.change is None) == ("model" not in asked)
    assert (found.latency.batch, found.latency.threads) == (batch, asked.get("threads", 1))


def external() -> onnx.ModelProto:
    graph = linear()
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return graph


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (lambda: b"", "not a file of a model, or it is damaged"),
        (lambda: b"\x00" * 4096, "not a file of a model, or it is damaged"),
        (lambda: b"PK\x03\x04" + b"x" * 100, "not exported into this store.*--trust"),
        (lambda: linear().SerializeToString()[:-5000], "not a file of a model|cannot load it"),
        (lambda: packed()[:-1000], "cut short"),
        (lambda: packed()[:-1] + b"x", "checksum does not match"),
        (
            lambda: linear(("n", 1, 28, 28)),
            r"takes tensor\(float\) \[n, 1, 28, 28\], allowed.*3, 32, 32",
        ),
        (lambda: linear(("n", 32, 32, 3)), r"\[n, 32, 32, 3\], allowed"),
        (lambda: linear((3, 32, 32)), r"\[3, 32, 32\], allowed"),
        (lambda: linear(kind=TensorProto.UINT8), r"takes tensor\(uint8\)"),
        (lambda: linear(inputs=2), r"has 2 inputs \(pixels0, pixels1\), allowed: one"),
        (
            lambda: linear(classes=7),
            r"logits for 2 images have shape \[2, 7\], allowed: \[2, 10\]",
        ),
        (lambda: linear(rows=5), "ONNX Runtime cannot run it"),
        (lambda: linear(pixels=100), "ONNX Runtime cannot"),
        (external, "keeps its weights in another file"),
    ],
)
def test_what_is_no_such_file_is_said_in_one_line(
    content: Callable[[], onnx.ModelProto | bytes], line: str, put: Callable[..., Path]
) -> None:
    path = put(content())
    with pytest.raises(ArtifactError, match=line) as caught:
        evaluate(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_other_bad_input_names_what_is_allowed(put: Callable[..., Path], tmp_path: Path) -> None:
    path = put(linear())
    bad: dict[str, dict[str, Any]] = {
        "split: got 'train', allowed: validation, test": {"split": "train"},
        "input: got 'bgr', allowed: prepared, raw": {"inputs": "bgr"},
        "threads: got 0, allowed: from 1": {"threads": 0},
        "dataset: got 'mnist', allowed: fashion-mnist": {"dataset": "mnist"},
        "model: got 'x', allowed: an id": {"model": "x"},
        "dataset: got 'fashion-mnist', allowed: none: there is none for imagenet/resnet18": {
            "model": "imagenet/resnet18",
            "dataset": "fashion-mnist",
        },
    }
    for line, asked in bad.items():
        with pytest.raises(InvalidInput, match=line):
            evaluate(path, **asked)
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(ArtifactError, match="there is no such file"):
            evaluate(missing)


class _Marks:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_a_program_of_somebody_else_is_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "theirs.pt2", tmp_path / "ran"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/extra/about.json", json.dumps({"model": MODEL}))
        for place in ("data/sample_inputs/model.pt", "data/constants/custom_obj_0", "data.pkl"):
            file.writestr(f"a/{place}", pickle.dumps(_Marks(mark)))
    with pytest.raises(ArtifactError, match="can run code that is inside it"):
        evaluate(path)
    assert format_of(path.read_bytes()) == "pt2"
    assert model_of(path.read_bytes()) == MODEL  # read without loading it
    assert not mark.exists()
    with pytest.raises(ArtifactError, match="not a program that PyTorch"):
        evaluate(path, trusted=True)
