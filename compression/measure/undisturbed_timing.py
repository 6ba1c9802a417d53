"""Models timed on cores of their own, and once more while the machine is busy with other things."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from compression.measure.cpu_pinning import pinned
from compression.measure.interleaved_timer import (
    Call,
    Clock,
    TimingSession,
    on_wall,
    time_interleaved,
)
from compression.measure.machine_load import strain
from compression.paths import timing_seconds

TAKES = 3


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

    return least_disturbed(take, timing_seconds() / 2)


def least_disturbed(take: Callable[[], TimingSession], pause_seconds: float) -> TimingSession:
    """The first of up to `TAKES` takes on a quiet machine; if there is none, the least busy one.

    Args:
        take: times once.
        pause_seconds: before it is done again.
    """
    best = take()
    for _ in range(TAKES - 1):
        if not best.on_busy_machine:
            break
        time.sleep(pause_seconds)
        best = min(best, take(), key=lambda session: strain(session.load))
    return best


def _rising(report: Callable[[float], None]) -> Callable[[float], None]:
    highest = 0.0

    def tell(done: float) -> None:
        nonlocal highest
        highest = max(highest, done)
        report(highest)

    return tell
