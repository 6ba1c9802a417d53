"""Latency of several models, measured in turns in one process.

What is timed is a call; what runs it, and how it was made ready, is its maker's business. Every
round gives each call a turn, in random order, and a turn is as many calls in a row as fill a
moment: so all have their share of what disturbs, and each runs as it does when it is used alone,
with its weights in the caches that they fit in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from compression.measure.cpu_pinning import BackgroundLoad
from compression.runs.results import Latency
from compression.runs.statistics import Ratio

# For each model, all its sessions together.
SECONDS, LEAST_CALLS = 1.0, 50
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
        """Medians with rounds drawn anew, the same ones for all samples of as many rounds."""
        return _weighted_medians(self, _draws(int(self.rounds[-1]) + 1))


@dataclass(frozen=True)
class TimingSession:
    """What was taken of several models: `samples` of each in the order they were given, one for
    each of its calls, and `busy`, the share of the machine that others used meanwhile."""

    samples: tuple[tuple[CallTimes, ...], ...]
    busy: float | None

    def latency(self, model: int, backend: str, threads: int, batch: int) -> Latency:
        """Quantiles over all calls of a model."""
        times = np.concatenate([s.times for s in self.samples[model]])
        p50, p90, p99 = (float(q) for q in np.quantile(times, (0.5, 0.9, 0.99)))
        return Latency(
            backend=backend, threads=threads, batch=batch, p50_ms=p50, p90_ms=p90, p99_ms=p99
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
        own = self.samples[model]
        return ratio_of_medians(own[0], own[-1])


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
    report: Callable[[float], None] | None = None,
) -> TimingSession:
    """Time models, each given as one or more calls that do the same, in random order in each round.

    Two calls for a model, made ready apart, show what chance does: where a session's memory
    happens to lie can move its median by several per cent, whatever it runs. After all are warm,
    every model is called for `seconds` (`SECONDS` if not given) and `LEAST_CALLS` times at least.
    `report` is told the fraction done.
    """
    wanted = ((SECONDS if seconds is None else seconds,), (LEAST_CALLS,))
    # The same call twice would do for a model that is given once: the control needs two samples.
    calls = [call for own in models for call in (own if len(own) > 1 else (*own, *own))]
    counts = [max(2, len(own)) for own in models]
    owners = np.repeat(np.arange(len(models)), counts)
    order, shuffle = list(range(len(calls))), random.Random(0).shuffle
    _warm(calls, clock)
    others = BackgroundLoad()
    turns: list[list[list[float]]] = [[] for _ in calls]
    had = np.zeros((2, len(models)))  # seconds and calls of each model
    started = time.perf_counter()
    while (done := float((had / wanted).min())) < 1:
        if report:
            report(done)
        shuffle(order)
        for i in order:
            taken = _turn(calls[i], clock)
            turns[i].append(taken)
            had[:, owners[i]] += sum(taken) / 1e3, len(taken)
    samples = [_sample(own) for own in turns]
    ends = np.cumsum([0, *counts])
    busy = others.share() if time.perf_counter() - started > 0.1 else None
    whole = tuple(tuple(samples[a:b]) for a, b in pairwise(ends))
    return TimingSession(whole, busy)


def _turn(call: Call, clock: Clock) -> list[float]:
    taken = [clock(call)]
    until = time.perf_counter() + TURN_SECONDS - taken[0] / 1e3
    while time.perf_counter() < until:
        taken.append(clock(call))
    return taken


def _warm(calls: Sequence[Call], clock: Clock) -> None:
    """Give all calls turns until each is steady, or has had `WARM_SECONDS`."""
    medians: list[list[float]] = [[] for _ in calls]
    spent = [0.0] * len(calls)
    while any(
        s < WARM_SECONDS and not _steady(m) for s, m in zip(spent, medians, strict=True)
    ) or any(len(m) < 2 for m in medians):
        for i, call in enumerate(calls):
            taken = _turn(call, clock)
            medians[i].append(float(np.median(taken)))
            spent[i] += sum(taken) / 1e3


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
    # of each round, how many calls are no slower than each
    below = np.zeros((weights.shape[1], len(times)), np.int32)
    below[rounds, np.arange(len(times))] = 1
    np.cumsum(below, axis=1, out=below)
    half = (weights * below[:, -1]).sum(1) / 2
    low = _first(below, weights, lambda counted: counted >= half)
    # of an even number of calls the two in the middle count
    high = _first(below, weights, lambda counted: counted > half)
    return (times[low] + times[high]) / 2


def _first(
    below: npt.NDArray[np.int32],
    weights: npt.NDArray[np.int32],
    reached: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]],
) -> npt.NDArray[np.int64]:
    """By bisection, the fastest call with which enough are counted, for every row of `weights`."""
    low = np.zeros(len(weights), np.int64)
    high = np.full(len(weights), below.shape[1] - 1)
    while (low < high).any():
        middle = (low + high) // 2
        enough = reached((weights * below[:, middle].T).sum(1))
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    return low
