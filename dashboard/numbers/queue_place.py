"""Where a queued run stands in the store's queue, and when it will start."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compression.runs.results import State
from compression.runs.store import StoredRun
from dashboard.numbers import format as fmt

_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth")


@dataclass(frozen=True)
class QueuePlace:
    """A place in the queue, 1 for the next to start; seconds until then, None if not known."""

    place: int
    seconds: float | None

    @property
    def words(self) -> str:
        """Second in the queue · starts in about 2 min."""
        ordinal = _ORDINALS[self.place - 1] if self.place <= len(_ORDINALS) else f"No. {self.place}"
        text = f"{ordinal} in the queue"
        if self.seconds is not None:
            text += f" · starts in about {fmt.about(self.seconds)}"
        return text


def queue_place(
    run_id: str,
    active: Sequence[StoredRun],
    seconds_of: Callable[[StoredRun], float | None],
    now: float,
) -> QueuePlace | None:
    """The place of a run in the queue; None if it is not queued.

    Args:
        run_id: of the queued run.
        active: all runs of the store that are queued or running.
        seconds_of: what a run will take from its start; None where nothing tells.
        now: seconds since 1970.
    """
    running = [e for e in active if e.run.state is State.RUNNING]
    queued = [e for e in active if e.run.state is State.QUEUED]
    queued.sort(key=lambda e: (e.created, e.run.id))  # as they are claimed
    ids = [e.run.id for e in queued]
    if run_id not in ids:
        return None
    ahead = queued[: ids.index(run_id)]
    left = [seconds_left(_latest(e, seconds_of), e, now) for e in running]
    seconds = seconds_until_start(left, [seconds_of(e) for e in ahead])
    return QueuePlace(len(ahead) + 1, seconds)


def seconds_until_start(
    running: Sequence[float | None], ahead: Sequence[float | None]
) -> float | None:
    """Seconds until a queued run starts; None if nothing tells.

    While runs wait, every worker has one: there are as many workers as runs under way. With none
    under way, nothing says whether there is a worker at all.

    Args:
        running: seconds that each run under way has left.
        ahead: seconds that each run takes that is to start before, in their order.
    """
    free = [seconds for seconds in running if seconds is not None]
    if not free or len(free) < len(running):
        return None
    heapq.heapify(free)
    for seconds in ahead:
        if seconds is None:
            return None
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return free[0]


def seconds_left(latest: float | None, entry: StoredRun, now: float) -> float | None:
    """Seconds that a run has left, of which `latest` was left when it was last heard of."""
    return None if latest is None else max(0.0, latest - (now - entry.updated))


def _latest(entry: StoredRun, seconds_of: Callable[[StoredRun], float | None]) -> float | None:
    return entry.progress.seconds_left if entry.progress is not None else seconds_of(entry)
