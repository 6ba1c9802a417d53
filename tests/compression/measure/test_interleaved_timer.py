"""The protocol: all have their turn, ratios are of what ran, and the machine is left as it was."""

from __future__ import annotations

import copy
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compression.catalogue.backends import BACKENDS
from compression.export.backends import (
    RUNTIMES,
    available,
    describe,
    why_not,
)
from compression.measure import cpu_pinning, interleaved_timer
from compression.measure.backend_timing import Pair, deployable, time_pair
from compression.measure.cpu_pinning import BackgroundLoad, pinned
from compression.measure.deployed_models import DeployablePair, deploy
from compression.measure.interleaved_timer import CallTimes, ratio_of_medians, time_interleaved
from compression.models.input_quantizers import parametrize_inputs
from compression.models.parametrize import QuantizationGrid
from compression.paths import TIMING_VARIABLE

EXAMPLE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than a second for each model: what is tested is which figure is of what."""
    monkeypatch.setenv(TIMING_VARIABLE, "0.15")


def sample(times: np.ndarray) -> CallTimes:
    """One call in every round."""
    return CallTimes(times, np.arange(len(times)))


def spin(milliseconds: float) -> Callable[[], None]:
    """A call that computes for so long, however busy the machine is with other things."""

    def call() -> None:
        until = time.thread_time() + milliseconds / 1e3
        while time.thread_time() < until:
            pass

    return call


def computing(call: Callable[[], object]) -> float:
    """Milliseconds that a call computes for."""
    before = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - before) / 1e6


# Ratios


def test_ratio_is_above_one_when_faster_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    slow, fast = (sample(at + rng.gamma(2, 0.1, 400)) for at in (4, 2))
    found = ratio_of_medians(slow, fast)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(np.median(slow.times) / np.median(fast.times))
    assert 1.8 < found.low < found.high < 2.1
    assert ratio_of_medians(fast, slow).value == pytest.approx(1 / found.value)


@pytest.mark.slow
def test_interval_covers_no_difference_although_neighbouring_calls_are_alike() -> None:
    rng = np.random.default_rng(2)
    rounds = np.repeat(np.arange(40), 10)  # turns of ten calls
    covered = 0
    for _ in range(100):
        drift = np.repeat(rng.normal(0, 0.05, (2, 40)), 10, axis=1)
        a, b = 1 + drift + rng.normal(0, 0.01, drift.shape)
        found = ratio_of_medians(CallTimes(a, rounds), CallTimes(b, rounds))
        covered += found.low <= 1 <= found.high
    assert covered >= 85


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=6),
    st.data(),
)
def test_a_resampled_median_is_that_of_the_calls_written_out(
    turns: list[list[int]], data: st.DataObject
) -> None:
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(turns), max_size=len(turns)))
    counts[0] += not any(counts)
    whole = interleaved_timer._sample([[float(t) for t in turn] for turn in turns])
    written = [t for turn, count in zip(turns, counts, strict=True) for t in turn * count]
    (found,) = interleaved_timer._weighted_medians(whole, np.array([counts], np.int32))
    assert found == np.median(written)


# Turns


@pytest.mark.slow
def test_twice_the_work_takes_twice_as_long_and_the_same_work_as_long() -> None:
    told: list[float] = []
    calls = [[spin(2), spin(2)], [spin(1), spin(1)]]
    found = time_interleaved(calls, clock=computing, seconds=0.15, report=told.append)
    assert found.ratio(0, 1).value == pytest.approx(2, rel=0.05)
    assert found.control(0).value == pytest.approx(1, rel=0.05)
    for model in found.samples:
        times = np.concatenate([s.times for s in model])
        assert len(times) >= interleaved_timer.LEAST_CALLS
        assert times.sum() >= 1e3 * 0.15
    told_of = found.latency(0, "spin", 1, 1)
    assert 2 <= told_of.p50_ms <= told_of.p90_ms <= told_of.p99_ms
    assert told == sorted(told) and told[0] >= 0 and told[-1] <= 1


def test_every_round_gives_every_call_a_turn_in_an_order_of_its_own() -> None:
    log: list[int] = []
    calls = [lambda i=i: log.append(i) or 10.0 for i in range(4)]  # type: ignore[func-returns-value]
    found = time_interleaved(
        [calls[:2], calls[2:]],
        clock=lambda call: float(call()),  # type: ignore[arg-type]
        turn_seconds=5e-5,
    )
    samples = [s for model in found.samples for s in model]
    rounds = int(samples[0].rounds[-1]) + 1
    counts = np.array([np.bincount(s.rounds, minlength=rounds) for s in samples])
    assert (counts >= 1).all()
    log = log[-counts.sum() :]  # before, they were warmed
    orders = []
    for taken in counts.T:
        own, log = log[: taken.sum()], log[taken.sum() :]
        order = list(dict.fromkeys(own))
        assert own == [i for i in order for _ in range(taken[i])]  # each in one go
        assert sorted(order) == [0, 1, 2, 3]
        orders.append(tuple(order))
    assert len(set(orders)) > 3


@pytest.mark.parametrize(
    ("medians", "warm"),
    [
        ([5, 5, 5, 5, 5], False),  # too few to tell
        ([9, 8, 7, 6, 5, 4], False),
        ([9, 5, 5, 5.05, 5, 5], True),
        ([5, 5, 5, 5.2, 5.2, 5.2], False),
    ],
)
def test_a_call_is_warm_when_its_median_has_stopped_moving(
    medians: list[float], warm: bool
) -> None:
    assert interleaved_timer._steady(medians) is warm


# What it is taken under


def affinities() -> set[frozenset[int]]:
    return {frozenset(os.sched_getaffinity(task)) for task in cpu_pinning._tasks()}


@pytest.fixture
def bystander() -> Iterator[None]:
    """Another thread of this process, which is there all the time."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system has no affinity")
def test_cores_threads_and_collector_are_held_and_put_back_even_after_an_error(
    bystander: None,
) -> None:
    before, threads = affinities(), torch.get_num_threads()

    def fails() -> None:
        with pinned(1) as cores:
            assert len(cores) == 1 and affinities() == {frozenset(cores)}
            assert torch.get_num_threads() == 1 and not gc.isenabled()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fails()
    assert affinities() == before
    assert torch.get_num_threads() == threads and gc.isenabled()


def test_others_are_all_but_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(cpu_pinning, "_STAT", stat)
    own = iter([100.0, 130.0])
    monkeypatch.setattr(cpu_pinning, "_own_ticks", lambda: next(own))
    # user nice system idle iowait irq softirq steal guest guest_nice
    stat.write_text("cpu 1000 0 100 5000 50 0 0 0 7 0\ncpu0 1 0 0 1 0 0 0 0 0 0\nintr 5\n")
    others = BackgroundLoad()
    stat.write_text("cpu 1060 10 120 5100 60 0 0 0 9 0\ncpu0 1 0 0 1 0 0 0 0 0 0\nintr 5\n")
    assert others.share() == pytest.approx((90 - 30) / 200)


def test_where_the_system_says_nothing_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_pinning, "_STAT", tmp_path / "none")
    assert BackgroundLoad().share() is None


# Models


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


@pytest.mark.slow
def test_a_model_with_far_less_to_do_is_measured_faster_in_every_kind_of_kernel(
    short: None,
) -> None:
    wide, narrow = (deployable(net(width), "net", EXAMPLE) for width in (64, 4))
    found = time_pair(wide, narrow, ("onnx", "onnx-int8", "eager"), EXAMPLE)
    assert not found.missing
    assert [t.backend for t in found.timings] == ["onnx", "onnx-int8", "eager"]
    assert [t.original_backend for t in found.timings] == ["onnx", "onnx", "eager"]
    assert all(t.ratio.low > 1.5 for t in found.timings)
    float32, int8, eager = found.timings
    assert float32.baseline == int8.baseline and float32.control == int8.control
    assert "ONNX Runtime" in int8.compressed.backend and "int8" in int8.compressed.backend
    assert "PyTorch" in eager.compressed.backend
    assert eager.compressed.batch == eager.compressed.threads == 1
    assert all(t.ready_seconds and t.ready_seconds > 0 for t in found.timings)


@pytest.mark.slow
def test_inputs_on_grids_are_timed_by_float32_kernels_and_stay_on_them(short: None) -> None:
    model = net(4)
    grid = QuantizationGrid(
        torch.full((1, 1, 1, 1), 0.5), torch.zeros(1, 1, 1, 1, dtype=torch.int16), 0, 3
    )
    rounded = copy.deepcopy(model)
    parametrize_inputs(rounded, {"0": grid, "3": grid})
    before = rounded(EXAMPLE)
    assert not torch.allclose(before, model(EXAMPLE))
    found = time_pair(
        deployable(model, "net", EXAMPLE), deployable(rounded, "net", EXAMPLE), ("onnx",), EXAMPLE
    )
    assert not found.missing
    assert torch.equal(rounded(EXAMPLE), before)


class Branching(nn.Module):
    """Python control flow on values: nothing can export it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1)) if float(x.sum()) > -1e9 else x.flatten(1)


@pytest.mark.slow
def test_what_cannot_be_exported_is_timed_in_pytorch_with_a_note(short: None) -> None:
    forms = deployable(Branching().eval(), "branching", EXAMPLE)
    pair = DeployablePair(forms, forms, Pair(None, None), quantized=True)
    found = deploy(pair, EXAMPLE, device="cpu", stage=lambda _: lambda _: None)
    assert "PyTorch" in found.latency.main.baseline.backend
    assert [t.backend for t in found.latency.timings] == ["eager"]
    assert "cannot be exported" in found.latency.missing["onnx"]
    assert (
        found.exported == () and found.onnx_bytes == Pair(None, None) and found.int8_bytes is None
    )


@pytest.mark.slow
def test_a_run_ships_its_graphs_with_their_bytes_and_their_answers(short: None) -> None:
    forms = [deployable(net(64, seed), "net", EXAMPLE) for seed in (0, 1)]
    pair = DeployablePair(forms[0], forms[1], Pair(None, None), quantized=True)
    found = deploy(pair, EXAMPLE, device="cpu", stage=lambda _: lambda _: None)
    float32, int8 = found.exported
    assert (float32.format, int8.format) == ("onnx", "onnx-int8")
    assert found.onnx_bytes.compressed == float32.file_bytes > int8.file_bytes == found.int8_bytes
    assert float32.difference is not None and float32.difference < 1e-4
    assert any("noise" in note for note in int8.notes)  # there were no images to check it on
    assert [a.backend for a in found.latency.speedups] == ["onnx", "onnx-int8"]


# Backends


def test_every_backend_of_the_catalogue_has_a_runtime() -> None:
    assert list(BACKENDS) == list(RUNTIMES)
    assert all(name == backend.id for name, backend in BACKENDS.items())


def test_backends_that_cannot_run_here_say_why() -> None:
    for name, backend in BACKENDS.items():
        assert backend.against in BACKENDS
        for device in ("cpu", "cuda"):
            why = why_not(name, device)
            assert (why is None) == (name in available(device))
            if device not in backend.devices:
                assert why and device in why
    assert {"eager", "onnx", "onnx-int8"} <= set(available("cpu"))
    assert "on cuda" in describe("eager", "cuda") and "float32" in describe("onnx", "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_backends_on_a_gpu(short: None) -> None:
    wide, narrow = (deployable(net(width), "net", EXAMPLE) for width in (256, 8))
    names = ("eager", "float16", "bfloat16")
    found = time_pair(wide, narrow, names, EXAMPLE.expand(64, -1, -1, -1), device="cuda")
    assert not found.missing
    assert all(t.ratio.value > 1 for t in found.timings)


@pytest.mark.slow
@pytest.mark.skipif("openvino" not in available("cpu"), reason="OpenVINO is not installed")
def test_openvino_computes_in_float32_where_the_graph_is(short: None) -> None:
    from compression.export.backends import _in_openvino

    forms = deployable(net(64), "net", EXAMPLE)
    (out,) = _in_openvino(forms.subject.float_graph(), EXAMPLE, 1)().values()  # type: ignore[attr-defined]
    expected = forms.subject.model(EXAMPLE).detach()
    # bfloat16, its own choice on many processors, has an error of some thousandths
    assert torch.allclose(torch.from_numpy(out), expected, atol=1e-4 * float(expected.abs().max()))
    found = time_pair(forms, forms, ("openvino", "openvino-int8"), EXAMPLE)
    assert not found.missing
