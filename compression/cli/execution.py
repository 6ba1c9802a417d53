"""A run in this process: a progress bar, Ctrl-C, and the curves of its training."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from compression.errors import Cancelled
from compression.runs.format import digits, percent
from compression.runs.progress import Curve, Point, Progress
from compression.runs.results import Run
from compression.runs.store import Store


def execute_here(
    run: Run,
    device: str,
    split: str,
    quiet: bool,
    *,
    keeping: bool = False,
    keep: Callable[[bytes], object] | None = None,
) -> tuple[Run, list[Curve]]:
    """Do a run, and say how it trained. `keep` gets its packed file.

    With `keeping`, the first Ctrl-C while it trains ends the training only: the best so far is
    measured. Any other one ends it at once.

    Raises:
        KeyboardInterrupt: it was ended at once.
        CompressionError: it cannot be done.
    """
    # torch is imported here, so that everything else answers at once
    from compression.jobs.execute import execute
    from compression.methods.pipeline import resolve_device

    resolve_device(device)
    curves: dict[int, Curve] = {}
    with contextlib.ExitStack() as around:
        # what libraries print must not get between the caller and the JSON
        around.enter_context(contextlib.redirect_stdout(sys.stderr))
        draw = around.enter_context(progress_bar(quiet))
        stop = around.enter_context(_interrupts()) if keeping else None

        def report(progress: Progress) -> None:
            if progress.curve is not None:
                curves[progress.curve.at] = progress.curve
            draw(progress)
            if stop is not None:
                stop.check(progress)

        try:
            done = execute(run, device=device, split=split, report=report, keep=keep)
        except Cancelled:  # there was nothing to keep after all
            raise KeyboardInterrupt from None
    return done, [curves[at] for at in sorted(curves)]


def do_and_store(store: Store, run: Run, device: str, quiet: bool, *, keeping: bool = False) -> Run:
    """Do a run on validation images as `execute_here`, and store it with its curves and file.

    Raises:
        KeyboardInterrupt: it was ended at once; nothing is stored.
        CompressionError: it cannot be done.
    """
    packed: list[bytes] = []
    done, curves = execute_here(
        run, device, "validation", quiet, keeping=keeping, keep=packed.append
    )
    store.runs.add(done, device)
    for curve in curves:
        store.curves.put(done.id, curve)
    for file in packed:
        store.files.put(done.id, file)
    return done


@dataclass
class _Stop:
    """Whether a person has asked for the training to end, and whether that was passed on."""

    keeps: bool = False
    asked: bool = False
    passed_on: bool = False

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.keeps:
            signal.default_int_handler(number, frame)
        self.asked = True

    def check(self, progress: Progress) -> None:
        self.keeps = progress.keeps
        if self.asked and self.keeps and not self.passed_on:
            self.passed_on = True
            line = "Stopping: the best so far is kept and measured. Ctrl-C again ends at once."
            print(line, file=sys.stderr)
            raise Cancelled("Cancelled.")


@contextlib.contextmanager
def _interrupts() -> Iterator[_Stop]:
    stop, before = _Stop(), signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield stop  # somebody else sees to it, or nobody is to
        return
    signal.signal(signal.SIGINT, stop.interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """What draws a report on a terminal."""
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[training]}"),
    )
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Bar(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("Starting", total=1.0, training="")
        yield lambda p: bar.update(
            task,
            description=p.stage,
            completed=p.fraction,
            training=training_line(p.point) if p.point else "",
        )


def training_line(point: Point) -> str:
    """How training goes, in a few words: loss, validation accuracy, learning rate."""
    parts = (
        "" if point.loss is None else f"loss {digits(point.loss)}",
        "" if point.top1 is None else f"top-1 {percent(point.top1)}",
        f"learning rate {digits(point.learning_rate)}",
    )
    return " · ".join(part for part in parts if part)
