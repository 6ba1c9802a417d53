"""What could be expected follows from the arithmetic, and each reason is given where it applies."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.catalogue.backends import BACKENDS, DType
from compression.measure.layer_profile import Cost
from compression.measure.machine_peaks import MachinePeaks
from compression.measure.speedup_analysis import (
    BOTTLENECKS,
    SHORT,
    SpeedupCase,
    Workload,
    analyse_speedup,
    expected,
)
from compression.runs.results import Latency, Timing
from compression.runs.statistics import Ratio

# 100 G float32 and 400 G int8 MACs a second, 10 GB a second, 1 µs to start an operator
MACHINE = MachinePeaks(
    threads=1,
    macs={"float32": 1e11, "int8": 4e11},
    bytes=((1 << 20, 1e10), (1 << 26, 1e10)),
    start={"onnx": 1e-6, "eager": 5e-6},
)


def timing(before: float, after: float, backend: str = "onnx", threads: int = 1) -> Timing:
    def latency(ms: float) -> Latency:
        return Latency(backend="-", threads=threads, batch=1, p50_ms=ms, p90_ms=ms, p99_ms=ms)

    value = before / after
    return Timing(
        backend=backend,
        original_backend="onnx",
        baseline=latency(before),
        compressed=latency(after),
        ratio=Ratio(value=value, low=0.99 * value, high=1.01 * value),
        control=Ratio(value=1, low=0.99, high=1.01),
    )


def work(macs: int = 10**8, zeros: float = 0.0, numbers: int = 1000, layers: int = 4) -> Workload:
    cost = Cost("Conv2d", macs // layers, (1 - zeros) * macs / layers, numbers // layers, 0)
    return Workload(macs, {f"layer{i}": cost for i in range(layers)}, 3 * layers)


def test_half_precision_moves_half_the_bytes_and_layers_left_in_float32_all_of_theirs() -> None:
    moved = {dtype: work().bytes(dtype) for dtype in DType}
    assert moved[DType.FLOAT32] == 2 * moved[DType.FLOAT16] == 2 * moved[DType.BFLOAT16] == 4000
    assert moved[DType.INT8] == 1000
    assert replace(work(), floats={"layer0": "why"}).bytes(DType.FLOAT16) == 2500


def test_zeros_slow_nothing_only_where_kernels_skip_them() -> None:
    zeros = BOTTLENECKS["zeros"]
    for name in BACKENDS:
        case = SpeedupCase(timing(8, 6, name), work(), work(zeros=0.5))
        assert (zeros(case) is None) == (name == "2:4")


def given_reasons(case: SpeedupCase) -> set[str]:
    """Which reasons an account gives, by their own words."""
    said = analyse_speedup(case).reasons
    return {name for name, reason in BOTTLENECKS.items() if reason(case) in said}


# At the best rates, 1e8 MACs take 1 ms in float32 and 0.25 ms in int8.
PLAIN = SpeedupCase(timing(4, 1.2), work(4 * 10**8), work(), MACHINE)


@given(st.integers(10**3, 10**9), st.integers(10**3, 10**9), st.floats(0, 0.95), st.floats(1.5, 8))
def test_expected_is_the_ratio_of_needed_products_times_that_of_the_kernels(
    before: int, after: int, zeros: float, faster: float
) -> None:
    machine = replace(MACHINE, macs={"float32": 1e11, "int8": faster * 1e11})
    case = SpeedupCase(timing(1, 1), work(4 * before), work(4 * after, zeros), machine)
    less = before / (after * (1 - zeros))
    assert expected(case) == pytest.approx(less, rel=1e-6)
    int8 = replace(case, timing=timing(1, 1, "onnx-int8"))
    assert expected(int8) == pytest.approx(faster * less, rel=1e-6)
    assert expected(replace(int8, machine=None)) == pytest.approx(less, rel=1e-6)


@pytest.mark.slow
@given(st.floats(0.05, 20))
def test_there_are_reasons_exactly_where_less_is_measured_than_expected(after: float) -> None:
    case = replace(PLAIN, timing=timing(4, after))
    found = analyse_speedup(case)
    assert found.expected == 4 and found.measured == case.timing.ratio
    assert bool(found.reasons) == (found.measured.high < SHORT * found.expected)


def _unquantized() -> Workload:
    return replace(work(), floats={"layer0": "", "layer1": "its input has no scale"})


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        # bound by arithmetic: none of them applies
        ({}, set()),
        ({"after": work(zeros=0.04)}, set()),
        ({"after": work(zeros=0.5)}, {"zeros"}),
        # 0.25 ms of arithmetic in int8
        ({"timing": timing(4, 0.4, "onnx-int8")}, set()),
        ({"timing": timing(4, 0.6, "onnx-int8")}, {"overhead"}),
        # layer by layer, with a quarter of the arithmetic in float32
        ({"timing": timing(4, 0.6, "onnx-int8"), "after": _unquantized()}, {"unquantized"}),
        # the same in float32 kernels, where it means nothing
        ({"after": _unquantized()}, set()),
        # 12 MB of weights take 4.8 ms, and the arithmetic takes 1 ms
        ({"timing": timing(8, 6), "after": work(numbers=12_000_000)}, {"memory"}),
        ({"timing": timing(8, 6), "after": work(numbers=2_000_000)}, {"overhead"}),
        ({"timing": timing(8, 6)}, {"overhead"}),
        # without a look at the machine nothing is known of it
        ({"timing": timing(8, 6), "machine": None}, set()),
        # two threads gain 2 for the original and 1.1 for the compressed model
        ({"timing": timing(4, 1.5, threads=2), "alone": timing(8, 1.65)}, {"threads"}),
        ({"timing": timing(4, 1.5, threads=2), "alone": timing(8, 2.9)}, set()),
        ({"timing": timing(4, 1.5, threads=2)}, set()),
    ],
)
def test_each_reason_is_given_exactly_when_it_applies(
    change: dict[str, Any], reasons: set[str]
) -> None:
    case = replace(PLAIN, **change)
    assert given_reasons(case) == reasons
    said = analyse_speedup(case).reasons
    assert len(said) == max(1, len(reasons))  # there is always something to say
    assert all(re.search(r"\d", sentence) and sentence.endswith(".") for sentence in said)


def test_figures_in_the_sentences_are_those_measured() -> None:
    def said(name: str, **change: Any) -> str:
        return str(BOTTLENECKS[name](replace(PLAIN, **change)))

    assert said("zeros", after=work(zeros=0.75)).startswith("75 % of its multiplications")
    assert "cut the work by a factor of 4." in said("zeros", after=work(zeros=0.75))
    sentence = said("unquantized", timing=timing(4, 0.6, "onnx-int8"), after=_unquantized())
    assert "1 of its 4 layers runs in float32, with 25 %" in sentence
    assert "layer1: its input has no scale" in sentence
    sentence = said("memory", timing=timing(8, 6), after=work(numbers=12_000_000))
    assert "48 MB" in sentence and "8 GB a second" in sentence and "10 GB a second" in sentence
    sentence = said("threads", timing=timing(4, 1.5, threads=2), alone=timing(8, 1.65))
    assert "the original 2 times" in sentence and "model 1.1 times" in sentence


def test_what_is_bound_by_starting_operators_says_how_long_one_takes() -> None:
    many = work(10**5, layers=100)
    near = SpeedupCase(timing(0.5, 0.3), work(10**6), many, MACHINE)  # 3 µs each, and 1 µs at least
    assert (
        "it is bound by starting operators, 3 µs for each of 100"
        in analyse_speedup(near).reasons[0]
    )
    far = replace(near, timing=timing(5, 3))
    assert "starting" not in analyse_speedup(far).reasons[0]
    assert "too small to come near that" in analyse_speedup(far).reasons[0]
    # PyTorch starts three operators for each layer here, and takes five times as long for it
    eager = replace(near, timing=timing(5, 3, "eager"))
    assert "10 µs for each of 300" in analyse_speedup(eager).reasons[0]


def test_machine_is_held_against_the_size_of_what_is_moved() -> None:
    machine = replace(MACHINE, bytes=((1000, 5e10), (10**6, 6e10), (10**8, 1e10)))
    assert machine.bytes_per_second(10) == 6e10  # what larger blocks reach, smaller ones do too
    assert machine.bytes_per_second(10**6) == 6e10
    assert machine.bytes_per_second(10**7) == machine.bytes_per_second(10**9) == 1e10
    roofs = {roof.numbers: roof for roof in machine.roofs(10**7)}
    assert roofs["int8"].macs_per_second == 4e11 and roofs["float32"].bytes_per_second == 1e10
