"""A machine that is busy is known to be: by each reading, and for real."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.measure.cpu_pinning import (
    LIMITS,
    LoadMeter,
    MachineLoad,
    least_disturbed,
    strain,
)
from compression.measure.interleaved_timer import (
    CallTimes,
    TimingSession,
    time_interleaved,
    time_undisturbed,
)
from compression.paths import TIMING_VARIABLE

READINGS = tuple(asdict(LIMITS))
QUIET = MachineLoad(waiting=0.0, switches=0.0, others=0.0, control=0.0)

amounts = st.none() | st.floats(0, 1e6)
loads = st.builds(MachineLoad, amounts, amounts, amounts, amounts)


# The decision


@given(loads, st.sampled_from(READINGS), st.floats(0, 1e6))
def test_a_higher_reading_never_makes_the_machine_seem_less_busy(
    load: MachineLoad, name: str, more: float
) -> None:
    higher = replace(load, **{name: (getattr(load, name) or 0.0) + more})
    assert strain(higher) >= strain(load) >= 0


@given(loads, st.sampled_from(READINGS))
def test_one_reading_is_enough_and_what_cannot_be_read_says_nothing(
    load: MachineLoad, name: str
) -> None:
    unread = replace(load, **{name: None})
    assert strain(unread) <= strain(load)
    limit = getattr(LIMITS, name)
    assert strain(replace(load, **{name: 1.01 * limit})) > 1
    assert strain(replace(QUIET, **{name: limit})) == 1  # up to its limit it is quiet


def test_with_nothing_read_and_with_nothing_going_on_it_is_quiet() -> None:
    assert strain(MachineLoad()) == strain(QUIET) == 0


# Takes


def session(waiting: float) -> TimingSession:
    one = CallTimes(np.ones(2), np.arange(2))
    return TimingSession(((one, one),), MachineLoad(waiting=waiting))


@pytest.mark.parametrize(
    ("waiting", "kept", "takes"),
    [
        ([0.0], 0.0, 1),
        ([0.3, 0.0], 0.0, 2),
        ([0.3, 0.1, 0.01], 0.01, 3),
        ([0.3, 0.1, 0.2, 0.0], 0.1, 3),  # never quiet: the least busy of three
        ([0.3, 0.3, 0.3, 0.0], 0.3, 3),
    ],
)
def test_a_disturbed_timing_is_taken_again_until_it_is_not_three_times_in_all(
    waiting: list[float], kept: float, takes: int
) -> None:
    left = [session(each) for each in waiting]
    best = least_disturbed(lambda: left.pop(0), lambda session: session.load, 0.0)
    assert best.load.waiting == kept
    assert len(waiting) - len(left) == takes <= 3
    assert best.latency(0, "b", 1, 1).on_busy_machine is (kept > 0.05)


# For real


def spin() -> None:
    while True:
        pass


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Two programs for each core that never pause."""
    started = multiprocessing.get_context("spawn")
    programs = [started.Process(target=spin, daemon=True) for _ in range(2 * (os.cpu_count() or 1))]
    for program in programs:
        program.start()
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.join()


def compute() -> None:
    sum(range(1000))


@pytest.mark.slow
def test_timings_beside_programs_that_never_pause_are_marked(
    busy_machine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIMING_VARIABLE, "0.5")
    told: list[float] = []
    timed = time_undisturbed([[compute], [compute]], 1, report=told.append)
    assert timed.on_busy_machine and timed.load.waiting and timed.load.waiting > 0.05
    assert timed.latency(1, "b", 1, 1).on_busy_machine
    assert told == sorted(told) and told.count(0.0) == 1  # it never falls back


def test_a_process_that_is_kept_waiting_sees_it() -> None:
    meter = LoadMeter()
    time.sleep(0.2)
    load = meter.read()
    assert load.waiting is not None and load.waiting > 0.5 and load.control is None


def test_the_control_is_of_the_model_that_differs_most_from_itself() -> None:
    times = {"a": 1.0, "b": 1.0, "c": 3.0, "d": 2.0}
    calls = [[lambda name=name: times[name] for name in pair] for pair in ("ab", "cd")]
    timed = time_interleaved(calls, clock=lambda call: float(call()), turn_seconds=1e-5)  # type: ignore[arg-type]
    assert timed.load.control == 0.5
