"""Ratios are of what ran, their intervals hold, and a graph is exported once per structure."""

import copy
import math
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compression.activations import hold_inputs
from compression.layers import Grid
from compression.measure import latency
from compression.measure.latency import compare, ratio_of_medians
from compression.models import build
from tests.compression.tiny import remove_channels


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path))
    return tmp_path


def net(width: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    ).eval()


EXAMPLE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_ratio_is_above_one_when_faster_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    slow, fast = 4 + rng.gamma(2, 0.1, 400), 2 + rng.gamma(2, 0.1, 400)
    found = ratio_of_medians(slow, fast)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(np.median(slow) / np.median(fast))
    assert 1.8 < found.low < found.high < 2.1
    assert ratio_of_medians(fast, slow).value == pytest.approx(1 / found.value)


def test_interval_covers_no_difference_although_neighbouring_calls_are_alike() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(100):
        drift = np.repeat(rng.normal(0, 0.05, (2, 40)), 10, axis=1)
        a, b = 1 + drift + rng.normal(0, 0.01, drift.shape)
        found = ratio_of_medians(a, b)
        covered += found.low <= 1 <= found.high
    assert covered >= 85


def test_same_model_twice_reads_about_one_and_reports_to_the_end() -> None:
    told: list[float] = []
    model = net(16)
    found = compare(model, model, ("net16", "net16"), EXAMPLE, report=told.append)
    assert found.note is None and "ONNX Runtime" in found.baseline.backend
    assert 0.5 < found.ratio.value < 2 and 0.5 < found.control.value < 2
    times = found.compressed
    assert 0 < times.p50_ms <= times.p90_ms <= times.p99_ms
    assert (times.threads, times.batch) == (1, 1)
    assert told == sorted(told) and told[-1] <= 1


def test_a_model_with_far_less_to_do_is_measured_faster() -> None:
    found = compare(net(128), net(4), ("wide", "wide"), EXAMPLE)
    assert found.note is None and "ONNX Runtime" in found.compressed.backend
    assert found.ratio.low > 1.5


def _numbers(graph: onnx.ModelProto) -> int:
    return sum(math.prod(tensor.dims) for tensor in graph.graph.initializer)


def test_fewer_channels_have_a_smaller_graph_of_their_own(own_cache: Path) -> None:
    model = build("resnet18", 10)
    narrow = copy.deepcopy(model)
    remove_channels(narrow, architecture="resnet18", example=EXAMPLE, sparsity=0.5)
    found = compare(model, narrow, ("resnet18", "resnet18"), EXAMPLE)
    assert found.note is None and "ONNX Runtime" in found.compressed.backend
    assert len(list((own_cache / "graphs").iterdir())) == 2
    full, own = (latency._graph(m, "resnet18", EXAMPLE) for m in (model, narrow))
    assert _numbers(own) < 0.4 * _numbers(full)
    assert found.ratio.value > 0


def test_only_the_graphs_used_last_are_kept(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "MOST_GRAPHS", 2)
    folder = own_cache / "graphs"
    for at, width in enumerate((3, 4, 5)):
        latency._graph(net(width), "net", EXAMPLE)
        for file in folder.iterdir():
            if file.stat().st_mtime > 10_000:
                os.utime(file, (at, at))
    left = {file.stat().st_mtime for file in folder.iterdir()}
    assert left == {1, 2}


def test_inputs_on_grids_are_timed_by_float32_kernels_and_stay_on_them() -> None:
    model = net(8)
    grid = Grid(torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, 1, 1, 1, dtype=torch.int16), -2, 1)
    rounded = copy.deepcopy(model)
    hold_inputs(rounded, {"0": grid, "3": grid})
    before = rounded(EXAMPLE)
    assert not torch.allclose(before, model(EXAMPLE))
    found = compare(model, rounded, ("net8", "net8"), EXAMPLE)
    assert found.note is None and "ONNX Runtime" in found.compressed.backend
    assert torch.equal(rounded(EXAMPLE), before)


def test_the_graph_is_exported_once_and_holds_each_models_own_weights(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(net(8), net(8, seed=1), ("net8", "net8"), EXAMPLE)
    files = list((own_cache / "graphs").iterdir())
    assert len(files) == 1 and files[0].stat().st_size < 20_000

    def no_export(*_: object, **__: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(torch.onnx, "export", no_export)
    # compare() itself checks that ONNX Runtime answers as PyTorch does, for both models
    assert compare(net(8, seed=2), net(8, seed=3), ("net8", "net8"), EXAMPLE).note is None


class Branching(nn.Module):
    """Python control flow on values: nothing can export it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1)) if float(x.sum()) > -1e9 else x.flatten(1)


def test_what_cannot_be_exported_is_timed_in_pytorch_with_a_note() -> None:
    model = Branching().eval()
    found = compare(model, model, ("branching", "branching"), EXAMPLE)
    assert "PyTorch" in found.baseline.backend
    assert found.note is not None and "cannot be exported" in found.note


def test_thread_count_is_put_back() -> None:
    before = torch.get_num_threads()
    compare(Branching().eval(), Branching().eval(), ("b", "b"), EXAMPLE, threads=1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18", "vit_b_16"]
)
def test_stock_architectures_run_in_onnx_runtime(name: str) -> None:
    side = 224 if name.startswith("vit") else 32
    torch.manual_seed(0)
    graph_input = torch.randn(1, 3, side, side)
    model = build(name, 10)
    graph = latency._graph(model, name, graph_input)
    latency._session(graph, model, graph_input, 1)  # raises unless the answers agree
