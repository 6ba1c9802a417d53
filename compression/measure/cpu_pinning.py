"""What a timing is taken under: the cores it may use, its threads, and what others do meanwhile."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

_LOOK_SECONDS = 0.05
_STAT, _TASKS = Path("/proc/stat"), Path("/proc/self/task")
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_CAN_PIN = hasattr(os, "sched_setaffinity")


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
