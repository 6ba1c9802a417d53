"""Ctrl-C while a run is prepared and done."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from compression.errors import Cancelled
from compression.runs.progress import Progress


@dataclass
class Interrupts:
    """What Ctrl-C does: with `keeping`, the first one while a model trains only ends its training.

    Any other one raises KeyboardInterrupt where the program happens to be.
    """

    keeping: bool = False
    _trains: bool = False
    _requested: bool = False
    _passed_on: bool = False
    _raised: bool = False

    def check(self, progress: Progress) -> None:
        """Pass a request to end the training on, as soon as there is something to keep.

        Raises:
            Cancelled: it was requested; raised once.
        """
        self._trains = self.keeping and progress.keeps
        if self._requested and self._trains and not self._passed_on:
            self._passed_on = True
            line = "Stopping: the best so far is kept and measured. Ctrl-C again ends at once."
            print(line, file=sys.stderr)
            raise Cancelled("Cancelled.")

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Hear Ctrl-C inside.

        Raises:
            KeyboardInterrupt: also where a library made an error of its own of it, as those do
                that are interrupted while they are imported.
        """
        with _handler(self._interrupt):
            try:
                yield
            except Exception as error:
                if self._raised:
                    raise KeyboardInterrupt from error
                raise

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._requested or not self._trains:
            self._raised = True
            signal.default_int_handler(number, frame)
        self._requested = True


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Let Ctrl-C wait for the end of what is inside: torch aborts the process when it is imported.

    Raises:
        KeyboardInterrupt: at the end, when Ctrl-C came meanwhile.
    """
    pressed: list[int] = []
    with _handler(lambda number, _: pressed.append(number)):
        yield
    if pressed:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _handler(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield  # somebody else sees to it, or nobody is to
        return
    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
