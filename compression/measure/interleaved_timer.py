"""Latency of several models, timed interleaved in one process.

What is timed is a call; what runs it, and how it was made ready, is its maker's business. Every
round gives each call a turn, in random order, and a turn is as many calls in a row as fill a
moment: so all have their share of what disturbs, and each runs as it does when it is used alone,
with its weights in the caches that they fit in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from compression.measure.cpu_pinning import (
    LEAST_SECONDS,
    TAKES,
    LoadMeter,
    MachineLoad,
    least_disturbed,
    pinned,
    strain,
)
from compression.paths import timing_seconds
from compression.runs.results import Latency
from compression.runs.statistics import Ratio

LEAST_CALLS = 50  # for each model, all its calls together
TURN_SECONDS = 0.01
# A call is warm when the median of its last turns has stopped moving, or after so long.
STEADY, WINDOW, WARM_SECONDS = 0.02, 3, 0.15
RESAMPLES, BLOCKS = 500, 25

Call = Callable[[], object]
Clock = Callable[[Call], float]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CallTimes:
    """Milliseconds of one call, in the order they were taken, and the round that each is of; every
    round has some."""

    times: Times
    rounds: npt.NDArray[np.int64]

    @cached_property
    def resampled(self) -> Times:
        """Medians with rounds resampled, the same ones for all samples of as many rounds."""
        return _weighted_medians(self, _draws(int(self.rounds[-1]) + 1))


@dataclass(frozen=True)
class TimingSession:
    """Times of several models: `samples` of each in the order they were given, one for each of its
    calls, what the machine did meanwhile, and the cores that it was pinned to."""

    samples: tuple[tuple[CallTimes, ...], ...]
    load: MachineLoad
    cores: tuple[int, ...] = ()

    @property
    def on_busy_machine(self) -> bool:
        """Whether other programs disturbed it."""
        return strain(self.load) > 1

    def latency(self, model: int, backend: str, threads: int, batch: int) -> Latency:
        """Quantiles over all calls of a model."""
        times = np.concatenate([s.times for s in self.samples[model]])
        p50, p90, p99 = (float(q) for q in np.quantile(times, (0.5, 0.9, 0.99)))
        return Latency(
            backend=backend,
            threads=threads,
            batch=batch,
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            on_busy_machine=self.on_busy_machine,
        )

    def ratio(self, before: int, after: int) -> Ratio:
        """Median of one model over that of another; the interval holds every pair of calls'."""
        first, second = self.samples[before], self.samples[after]
        pairs = [ratio_of_medians(a, b) for a in first for b in second]
        value = _median(first) / _median(second)
        low, high = min(p.low for p in pairs), max(p.high for p in pairs)
        return Ratio(value=value, low=min(low, value), high=max(high, value))

    def control(self, model: int) -> Ratio:
        """A model's first call over its last: what is seen where there is no difference."""
        samples = self.samples[model]
        return ratio_of_medians(samples[0], samples[-1])


def on_wall(call: Call) -> float:
    """Milliseconds that a call takes."""
    before = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - before) / 1e6


def on_cuda(call: Call) -> float:
    """Milliseconds between events before and after what a call puts on the current stream."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def time_interleaved(
    models: Sequence[Sequence[Call]],
    *,
    clock: Clock = on_wall,
    seconds: float | None = None,
    turn_seconds: float = TURN_SECONDS,
    report: Callable[[float], None] | None = None,
) -> TimingSession:
    """Time models in random order in each round, after all are warm.

    Two calls for a model, made ready apart, show what chance does: where a session's memory
    happens to lie can move its median by several per cent, whatever it runs.

    Args:
        models: one or more calls for each, which do the same.
        clock: gives the milliseconds that a call takes.
        seconds: that each model is called for at least, `timing_seconds()` if not given; and
            `LEAST_CALLS` times. Each call is warm after at most as long.
        turn_seconds: of calls in a row that a turn lasts.
        report: gets the fraction done.
    """
    seconds = timing_seconds() if seconds is None else seconds
    least = ((seconds,), (LEAST_CALLS,))
    # The same call twice would do for a model that is given once: the control needs two samples.
    calls = [call for given in models for call in (given if len(given) > 1 else (*given, *given))]
    counts = [max(2, len(given)) for given in models]
    owners = np.repeat(np.arange(len(models)), counts)
    order, shuffle = list(range(len(calls))), random.Random(0).shuffle
    _warm(calls, clock, turn_seconds, min(WARM_SECONDS, seconds))
    meter = LoadMeter()
    turns: list[list[list[float]]] = [[] for _ in calls]
    spent = np.zeros((2, len(models)))  # seconds and calls of each model
    while (done := float((spent / least).min())) < 1:
        if report:
            report(done)
        shuffle(order)
        for i in order:
            times = _turn(calls[i], clock, turn_seconds)
            turns[i].append(times)
            spent[:, owners[i]] += sum(times) / 1e3, len(times)
    load = meter.read()
    each = [_sample(turn) for turn in turns]
    ends = np.cumsum([0, *counts])
    samples = tuple(tuple(each[a:b]) for a, b in pairwise(ends))
    return TimingSession(samples, replace(load, control=_control(samples)))


def time_undisturbed(
    models: Sequence[Sequence[Call]],
    threads: int,
    *,
    clock: Clock = on_wall,
    report: Callable[[float], None] | None = None,
) -> TimingSession:
    """Time models interleaved, on the cores that are least used just now.

    If the machine is busy meanwhile, it is done again, `TAKES` times in all, on the cores that are
    least used by then. Calls are not made ready again.

    Args:
        models: one or more calls for each, as `time_interleaved` takes them.
        threads: that a call may use: as many cores.
        clock: gives the milliseconds that a call takes.
        report: gets the fraction done, which never falls.

    Returns:
        The first take on a quiet machine; if there is none, that of the least busy one.
    """
    tell = _rising(report) if report else None

    def take() -> TimingSession:
        with pinned(threads) as cores:
            return replace(time_interleaved(models, clock=clock, report=tell), cores=cores)

    seconds = timing_seconds()
    # who asks for less than the readings need wants to be done, not to know
    takes = TAKES if seconds >= LEAST_SECONDS else 1
    return least_disturbed(take, lambda session: session.load, seconds / 2, takes)


def _rising(report: Callable[[float], None]) -> Callable[[float], None]:
    highest = 0.0

    def tell(done: float) -> None:
        nonlocal highest
        highest = max(highest, done)
        report(highest)

    return tell


def _control(samples: Sequence[Sequence[CallTimes]]) -> float:
    """How far the ratio of any of the models to itself is from 1, at most."""
    return max(abs(_median((s[0],)) / _median((s[-1],)) - 1) for s in samples)


def _turn(call: Call, clock: Clock, seconds: float) -> list[float]:
    times = [clock(call)]
    until = time.perf_counter() + seconds - times[0] / 1e3
    while time.perf_counter() < until:
        times.append(clock(call))
    return times


def _warm(calls: Sequence[Call], clock: Clock, turn_seconds: float, most: float) -> None:
    """Give all calls turns until each is steady, or has had that many seconds."""
    medians: list[list[float]] = [[] for _ in calls]
    spent = [0.0] * len(calls)
    while any(s < most and not _steady(m) for s, m in zip(spent, medians, strict=True)) or any(
        len(m) < 2 for m in medians
    ):
        for i, call in enumerate(calls):
            times = _turn(call, clock, turn_seconds)
            medians[i].append(float(np.median(times)))
            spent[i] += sum(times) / 1e3


def _steady(medians: Sequence[float]) -> bool:
    if len(medians) < 2 * WINDOW:
        return False
    before, after = np.median(medians[-2 * WINDOW : -WINDOW]), np.median(medians[-WINDOW:])
    return bool(abs(after - before) < STEADY * before)


def _sample(turns: Sequence[Sequence[float]]) -> CallTimes:
    rounds = np.repeat(np.arange(len(turns)), [len(turn) for turn in turns])
    return CallTimes(np.concatenate([np.array(turn) for turn in turns]), rounds)


def ratio_of_medians(before: CallTimes, after: CallTimes) -> Ratio:
    """Median of `before` over median of `after`, taken in the same rounds, with a 95 % percentile
    bootstrap interval.

    Blocks of neighbouring rounds are resampled as a whole (Kuensch, 1989), the same for both,
    because what disturbs one call disturbs the next ones too; single calls would make the interval
    far too narrow.
    """
    ratios = before.resampled / after.resampled
    low, high = np.quantile(ratios, (0.025, 0.975))
    value = _median((before,)) / _median((after,))
    return Ratio(value=value, low=min(float(low), value), high=max(float(high), value))


def _draws(rounds: int) -> npt.NDArray[np.int32]:
    """How often each of so many rounds is drawn, for every resample."""
    rng = np.random.default_rng(0)
    length = max(1, rounds // BLOCKS)
    starts = rng.integers(0, rounds - length + 1, (RESAMPLES, -(-rounds // length)))
    picks = (starts[:, :, None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :rounds]
    weights = np.zeros((RESAMPLES, rounds), np.int32)
    np.add.at(weights, (np.arange(RESAMPLES)[:, None], picks), 1)
    return weights


def _median(samples: Sequence[CallTimes]) -> float:
    return float(np.median(np.concatenate([s.times for s in samples])))


def _weighted_medians(sample: CallTimes, weights: npt.NDArray[np.int32]) -> Times:
    """Median of the calls, each counted as often as its round, for every row of `weights`."""
    order = np.argsort(sample.times, kind="stable")
    times, rounds = sample.times[order], sample.rounds[order]
    medians = []
    for counts in weights:
        counted = np.cumsum(counts[rounds])
        # of an even number of calls the two in the middle count
        middle = [np.searchsorted(counted, counted[-1] / 2, side=s) for s in ("left", "right")]
        medians.append(times[middle].mean())
    return np.array(medians)
