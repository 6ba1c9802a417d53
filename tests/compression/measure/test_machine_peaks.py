"""What the machine can do, and what each layer does with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from compression.export.onnx.float_graph import float_graph
from compression.export.onnx.int8_graph import int8_graph
from compression.measure import machine_peaks
from compression.measure.layer_profile import (
    Cost,
    Spent,
    costs,
    in_pytorch,
    in_runtime,
    side_by_side,
)
from compression.measure.machine_peaks import MachinePeaks
from compression.models.load import build, count_macs
from compression.models.parametrize import compressible
from compression.paths import TIMING_VARIABLE
from tests.compression.tiny import net

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path))
    monkeypatch.setenv(TIMING_VARIABLE, "0.05")
    machine_peaks.machine_peaks.cache_clear()
    yield
    machine_peaks.machine_peaks.cache_clear()


def test_machine_does_what_any_processor_does() -> None:
    found = machine_peaks.measure_peaks(1)
    assert found.threads == 1 and set(found.macs) == {"float32", "int8"}
    # however busy: a hundred million a second, and no more than a GPU
    assert all(1e8 < rate < 1e14 for rate in found.macs.values())
    assert all(1e8 < rate < 1e13 for _, rate in found.bytes)
    assert [block for block, _ in found.bytes] == sorted(block for block, _ in found.bytes)
    assert all(0 <= seconds < 1e-3 for seconds in found.start.values())


def test_machine_is_looked_at_again_only_while_it_was_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def seen(rate: float, start: float, busy: float | None) -> MachinePeaks:
        return MachinePeaks(1, {"float32": rate}, ((8, 2 * rate),), {"onnx": start}, busy)

    looks = iter([seen(5, 3, 0.9), seen(4, 1, 0.1)])
    monkeypatch.setattr(machine_peaks, "measure_peaks", lambda _: next(looks))
    assert machine_peaks.machine_peaks(1) == seen(5, 3, 0.9)
    assert machine_peaks.machine_peaks(1) == seen(5, 3, 0.9)  # within a process it stays
    for _ in range(2):  # the second time it is read
        machine_peaks.machine_peaks.cache_clear()
        assert machine_peaks.machine_peaks(1) == seen(5, 1, 0.1)


@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_what_is_probed_is_a_convolution_and_a_product_of_those_numbers(numbers: str) -> None:
    for graph, inner in (
        (machine_peaks.convolve(numbers), 9 * 128),
        (machine_peaks.multiply(numbers), 512),
    ):
        running = ort.InferenceSession(graph.SerializeToString())
        given = running.get_inputs()[0]
        kind = np.float32 if numbers == "float32" else np.uint8
        (out,) = running.run(None, {given.name: np.ones(given.shape, kind)})
        # ones times ones, summed; in int8 at a scale of a tenth, and no more than 255 of them
        most = inner if numbers == "float32" else min(255, round(inner * 0.1 * 0.1 / 0.1))
        assert out.max() == most


def test_costs_are_those_that_are_counted_elsewhere() -> None:
    model = build("resnet18", 10)
    found = costs(model, IMAGES)
    assert list(found) == [name for name, _ in compressible(model)]
    assert sum(c.macs for c in found.values()) == 2 * count_macs(model, (3, 32, 32))
    first = found["conv1"]
    assert first.weights == 64 * 3 * 49
    assert first.bytes(4) == 4 * (first.weights + IMAGES.numel() + 2 * 64 * 16 * 16)
    with torch.no_grad():
        weight = model.get_parameter("fc.weight")
        weight[:, ::4] = 0
    assert costs(model, IMAGES)["fc"].nonzero_macs == pytest.approx(0.75 * first_of(found, "fc"))


def first_of(found: dict[str, Cost], name: str) -> int:
    return found[name].macs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convolutional", "transformer"])
def test_every_layer_has_its_time_in_both_kinds_of_graph(name: str) -> None:
    model = net(name)
    work = costs(model, IMAGES)
    graphs = [float_graph(model, name, IMAGES), int8_graph(model, name, IMAGES, IMAGES).graph]
    float32, int8 = in_runtime(graphs, [work, work], IMAGES)
    assert set(work) <= set(float32)
    assert set(work) <= set(int8)
    for found in (float32, int8):
        others = set(found) - set(work)
        assert all(other.startswith("(") for other in others)
        assert all(spent.ms >= 0 for spent in found.values())
    assert "(Conv)" not in float32 and "(QLinearConv)" not in int8


def test_layers_are_timed_in_pytorch_by_name() -> None:
    model = net("convolutional")
    twice = nn.Sequential(model, nn.Identity())
    (found,) = in_pytorch([twice], IMAGES)
    leaves = {n for n, m in twice.named_modules() if n and not list(m.children())}
    assert set(found) == leaves
    assert all(spent.ms > 0 for spent in found.values())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in twice.modules())


def test_both_models_stand_side_by_side_in_the_order_of_use() -> None:
    wide, narrow = Cost("Conv2d", 100, 100.0, 10, 30), Cost("Conv2d", 25, 25.0, 5, 15)
    rows = side_by_side(
        [{"b": Spent("Conv", 2.0), "(Add)": Spent("Add", 0.5)}, {"b": Spent("QLinearConv", 1.0)}],
        [{"a": wide, "b": wide}, {"b": narrow}],
        ({}, {"b": 1}),
    )
    assert [row.name for row in rows] == ["a", "b", "(Add)"]
    a, b, add = rows
    assert (a.original_ms, a.original_macs, a.compressed_macs) == (None, 100, None)
    assert (b.original_ms, b.compressed_ms) == (2.0, 1.0)
    assert (b.original_bytes, b.compressed_bytes) == (160, 20)
    assert (add.kind, add.original_ms, add.original_macs) == ("Add", 0.5, None)
