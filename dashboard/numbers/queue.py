"""The queue of a store: which runs are under way, and which wait, in what order."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from compression.runs.results import State
from compression.runs.store import StoredRun
from dashboard.numbers import format as fmt

_ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth", "Ninth")


@dataclass(frozen=True)
class Queue:
    """Runs of all models: those that are under way, and those that wait, the next one first."""

    running: tuple[StoredRun, ...]
    waiting: tuple[StoredRun, ...]

    @property
    def length(self) -> int:
        """How many runs there are in all."""
        return len(self.running) + len(self.waiting)

    def sentence(self, owner: str) -> str:
        """How long the queue is, and the place in it of the owner's next run, if one waits."""
        counts = ((len(self.running), "running"), (len(self.waiting), "waiting"))
        sizes = ", ".join(f"{count} {state}" for count, state in counts if count)
        places = (place for place, e in enumerate(self.waiting, 1) if e.owner == owner)
        place = next(places, None) if owner else None
        return sizes if place is None else f"{sizes}; your next run is number {place}"


def queue_of(entries: Iterable[StoredRun]) -> Queue:
    """The queue that these runs make, oldest first, as workers take them."""
    states: dict[State, list[StoredRun]] = {State.RUNNING: [], State.QUEUED: []}
    for entry in entries:
        if entry.run.state in states:
            states[entry.run.state].append(entry)
    return Queue(tuple(states[State.RUNNING]), tuple(states[State.QUEUED]))


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


def places(
    queue: Queue, seconds_of: Callable[[StoredRun], float | None], now: float
) -> dict[str, QueuePlace]:
    """The place of every run that waits, by its id, in the order in which they start.

    Args:
        queue: of the whole store.
        seconds_of: what a run will take from its start; None where nothing tells.
        now: seconds since 1970.
    """
    left = [seconds_left(_latest(e, seconds_of), e, now) for e in queue.running]
    takes = [seconds_of(e) for e in queue.waiting[:-1]]
    return {
        entry.run.id: QueuePlace(at + 1, seconds_until_start(left, takes[:at]))
        for at, entry in enumerate(queue.waiting)
    }


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
