"""What a timing is taken under: the cores it may use, its threads, and whether the machine is busy
with other things meanwhile."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import torch

_LOOK_SECONDS = 0.05
_STAT, _TASKS = Path("/proc/stat"), Path("/proc/self/task")
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_CAN_PIN = hasattr(os, "sched_setaffinity")
# The system counts time in ticks of 10 ms: over less than this, a share of it says nothing.
LEAST_SECONDS = 0.1
# Other systems count differently, or not at all.
_KNOWS_SWITCHES = sys.platform == "linux"
TAKES = 3
T = TypeVar("T")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for PyTorch, put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Hold this process to `threads` cores, PyTorch to as many threads, and no garbage collection.

    Gives the cores, none where the system cannot say. All is put back, whatever happens.
    """
    collecting = gc.isenabled()
    cores = _quiet_cores(threads)
    tasks = {task: os.sched_getaffinity(task) for task in _tasks()} if cores else {}
    try:
        for task in tasks:
            _pin(task, set(cores))
        gc.disable()
        with torch_threads(threads):
            yield cores
    finally:
        mine = tasks.get(threading.get_native_id())
        for task in _tasks() if mine else ():
            # one that was started meanwhile has what its starter had then
            _pin(task, tasks.get(task, mine or set()))
        if collecting:
            gc.enable()


def _tasks() -> list[int]:
    """This process's threads by the system's numbers."""
    try:
        return [int(task.name) for task in _TASKS.iterdir()]
    except OSError:
        return [threading.get_native_id()]


def _pin(task: int, cores: set[int]) -> None:
    with suppress(OSError):  # it may have ended
        os.sched_setaffinity(task, cores)


def _quiet_cores(count: int) -> tuple[int, ...]:
    """The cores least used just now, of different physical ones as far as there are enough."""
    if not _CAN_PIN:
        return ()
    mine = os.sched_getaffinity(0)
    before = _ticks()
    time.sleep(_LOOK_SECONDS)
    after = _ticks()
    busy = {core: after[core][0] - before[core][0] for core in mine & before.keys() & after.keys()}
    ranked = sorted(mine, key=lambda core: (busy.get(core, 0), core))
    seen: set[str] = set()
    first: list[int] = []
    second: list[int] = []
    for core in ranked:
        physical = _siblings(core)
        (second if physical in seen else first).append(core)
        seen.add(physical)
    return tuple(sorted([*first, *second][:count]))


def _siblings(core: int) -> str:
    try:
        return Path(_SIBLINGS.format(core)).read_text()
    except OSError:
        return str(core)


def _ticks() -> dict[int | None, tuple[int, int]]:
    """Ticks that each core, and under None all of them, were busy and there were; empty where the
    system does not say."""
    by_core: dict[int | None, tuple[int, int]] = {}
    with suppress(OSError, ValueError):
        for line in _STAT.read_text().splitlines():
            if line.startswith("cpu"):
                name, *numbers = line.split()
                # user, nice, system, idle, iowait, irq, softirq, steal; guests count as user
                ticks = [int(n) for n in numbers[:8]]
                idle = sum(ticks[3:5])
                by_core[int(name[3:]) if name[3:] else None] = (sum(ticks) - idle, sum(ticks))
    return by_core


class BackgroundLoad:
    """How busy the machine is with other things than this process, from now on."""

    def __init__(self) -> None:
        self._before = _ticks().get(None), _own_ticks()

    def share(self) -> float | None:
        """The share of all cores' time that others used so far, from 0 to 1; None if not known."""
        before, spent_before = self._before
        now, spent = _ticks().get(None), _own_ticks()
        if before is None or now is None or now[1] <= before[1]:
            return None
        used = (now[0] - before[0] - (spent - spent_before)) / (now[1] - before[1])
        return min(1.0, max(0.0, used))


def _own_ticks() -> float:
    times = os.times()
    return (times.user + times.system) * os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class MachineLoad:
    """What was read while models were timed; None where it could not be.

    Args:
        waiting: share of the time for which no thread of this process had a core.
        switches: how often a second the system took a core from one of its threads.
        others: share of the machine that other programs used.
        control: how far the ratio of a model to itself was from 1.
    """

    waiting: float | None = None
    switches: float | None = None
    others: float | None = None
    control: float | None = None


# Up to here a machine is quiet. Seen on two cores (AMD EPYC), the smallest model against its int8
# graph, a second each; alone, the ratio of their medians is 0.92:
# - waiting: a core to itself 0.01 to 0.05, ratio 0.917 to 0.922. With 0.15 it is off by 1.5 % at
#   times, with 0.5 by 3 %, beside one or two programs that never pause (0.6 to 0.85) by 7 %.
# - switches: 14 to 29 on a core to itself, 40 to 260 on a shared one, where `waiting` says so too;
#   46,000 to 61,000 where the two threads of a call had to share one: there the process computes
#   all the time, and yet the original's ratio to itself was anything from 0.48 to 1.04.
# - others: a second core that is busy all the time (0.51 to 0.53) changed nothing.
# - control: 0.01 with a core to itself, up to 0.05 on a shared one. On a quiet machine it can be
#   several per cent, by where memory happens to lie, which the ratio's interval holds already.
LIMITS = MachineLoad(waiting=0.05, switches=1000.0, others=0.6, control=0.1)


def strain(load: MachineLoad) -> float:
    """The reading that is highest for its limit, over that limit: above 1 the machine was busy."""
    names = [field.name for field in fields(load) if getattr(load, field.name) is not None]
    return max((getattr(load, name) / getattr(LIMITS, name) for name in names), default=0.0)


class LoadMeter:
    """Reads what the machine does, from now on."""

    def __init__(self) -> None:
        self._others = BackgroundLoad()
        self._wall, self._own = time.perf_counter(), time.process_time()
        self._switches = _switches()

    def read(self) -> MachineLoad:
        """What there was so far. It is right for a process that computes all the time."""
        wall, own = time.perf_counter() - self._wall, time.process_time() - self._own
        return MachineLoad(
            waiting=max(0.0, 1 - own / wall),
            switches=(_switches() - self._switches) / wall if _KNOWS_SWITCHES else None,
            others=self._others.share() if wall > LEAST_SECONDS else None,
        )


def _switches() -> int:
    """How often the system took a core from this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def least_disturbed(
    take: Callable[[], T],
    load_of: Callable[[T], MachineLoad],
    pause_seconds: float,
    takes: int = TAKES,
) -> T:
    """The first of several takes on a quiet machine; if there is none, the least busy one.

    Args:
        take: times something once.
        load_of: what was read of the machine meanwhile.
        pause_seconds: before it is done again.
        takes: how many there are at most.
    """
    best = take()
    for _ in range(takes - 1):
        if strain(load_of(best)) <= 1:
            break
        time.sleep(pause_seconds)
        best = min(best, take(), key=lambda taken: strain(load_of(taken)))
    return best
