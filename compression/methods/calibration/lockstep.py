"""Batches that go through a model side by side, and wait for each other at every layer.

What a layer has to see of all images can so be gathered, and acted upon before the layer is used,
although only one batch is computed at a time and no layer's inputs are kept longer than needed.
Batches that memory has no room for join where the activations have become small enough; the layers
that they pass before that are done with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from greenlet import getcurrent, greenlet
from torch import Tensor

Payload = TypeVar("Payload")
# What arrives at a meeting point: its name, and what one batch brings.
Arrival = tuple[str, Any]


class Lockstep(Generic[Payload]):
    """Runs batches side by side.

    Args:
        run: sends one batch through the model, whose hooks call `meet`.
        gather: gets the name of a meeting point and what all batches bring there, in order, and
            gives one answer for all.
        room: how many batches may wait at a meeting point of that name.
    """

    def __init__(
        self,
        run: Callable[[Tensor], object],
        gather: Callable[[str, list[Payload]], object],
        room: Callable[[str], int],
    ) -> None:
        self._run, self._gather, self._room = run, gather, room
        self._passed = 0
        self._reached: dict[greenlet, int] = {}

    def meet(self, name: str, payload: Payload) -> Any:
        """Wait for the other batches; called from the model's hooks.

        Returns:
            The answer of `gather`, or None where the others have been before this batch began.
        """
        me = getcurrent()
        self._reached[me] += 1
        if self._reached[me] <= self._passed:
            return None
        assert me.parent is not None
        return me.parent.switch((name, payload))

    def go(self, batches: Sequence[Tensor]) -> None:
        """Send all batches through; what `gather` or the model raises ends it."""
        runners: list[greenlet] = []
        arrivals: list[Arrival | None] = []
        try:
            while True:
                if not runners or arrivals[0] is not None:
                    self._admit(batches, runners, arrivals)
                if arrivals[0] is None:
                    return
                name = arrivals[0][0]
                answer = self._gather(name, [a[1] for a in arrivals if a is not None])
                self._passed += 1
                for i, runner in enumerate(runners):
                    arrivals[i] = None  # what it brought is not kept while it goes on
                    arrivals[i] = runner.switch(answer)
        finally:
            for runner in runners:
                runner.throw()  # ends those that still wait

    def _admit(
        self, batches: Sequence[Tensor], runners: list[greenlet], arrivals: list[Arrival | None]
    ) -> None:
        """Let batches begin as long as there is room where the others wait."""
        while len(runners) < len(batches):
            if runners and len(runners) >= self._room(str((arrivals[0] or ("",))[0])):
                return
            runner = greenlet(self._start)
            self._reached[runner] = 0
            runners.append(runner)
            arrivals.append(runner.switch(batches[len(runners) - 1]))

    def _start(self, batch: Tensor) -> None:
        self._run(batch)
