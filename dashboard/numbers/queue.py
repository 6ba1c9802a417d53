"""The queue of a store: which runs are under way, and which wait, in what order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from compression.runs.results import State
from compression.runs.store import StoredRun


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
