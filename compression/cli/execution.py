"""A run in this process: a progress bar, Ctrl-C, and the curves of its training."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from compression.cli.interrupts import Interrupts, postponed
from compression.errors import Cancelled
from compression.runs.format import digits, percent, so_far
from compression.runs.progress import Curve, Point, Progress
from compression.runs.results import Run
from compression.runs.store import Store


def execute_here(
    run: Run,
    device: str,
    quiet: bool,
    *,
    store: Store | None = None,
    keeping: bool = False,
    keep: Callable[[bytes], object] | None = None,
) -> tuple[Run, list[Curve]]:
    """Do a run on validation images, and say how it trained.

    With `keeping`, the first Ctrl-C while it trains ends the training only: the best so far is
    measured. Any other one ends it at once.

    Args:
        run: what to do.
        device: `auto`, `cpu` or `cuda`.
        quiet: whether no progress is drawn.
        store: where to look for earlier runs of the same recipe.
        keeping: see above.
        keep: gets the packed file.

    Raises:
        KeyboardInterrupt: it was ended at once.
        CompressionError: it cannot be done.
    """
    with postponed():  # torch is imported here, so that everything else answers at once
        from compression.jobs.execute import execute
        from compression.models.placement import resolve_device

    resolve_device(device)
    curves: dict[int, Curve] = {}
    interrupts = Interrupts(keeping)
    with _reporting(quiet, interrupts) as draw:

        def report(progress: Progress) -> None:
            if progress.curve is not None:
                curves[progress.curve.at] = progress.curve
            draw(progress)
            interrupts.check(progress)

        try:
            done = execute(run, device=device, report=report, keep=keep, store=store)
        except Cancelled:  # there was nothing to keep after all
            raise KeyboardInterrupt from None
    return done, [curves[at] for at in sorted(curves)]


def certify_here(store: Store, run: Run, device: str, quiet: bool) -> Run:
    """Measure a finished run's file on the test images.

    Raises:
        CompressionError: it cannot be done.
    """
    with postponed():
        from compression.jobs.execute import certify

    with _reporting(quiet) as draw:
        return certify(store, run, device=device, report=draw)


def remeasure_here(store: Store, run: Run, device: str, quiet: bool) -> None:
    """Measure a finished run's latency again, and store it in the run and its certificate.

    Raises:
        CompressionError: it cannot be done.
    """
    with postponed():
        from compression.jobs.remeasure import remeasure

    with _reporting(quiet) as draw:
        again, certificate = remeasure(store, run, device=device, report=draw)
    store.runs.replace(again)
    if certificate:
        store.certificates.put(again.id, certificate)


@contextlib.contextmanager
def _reporting(
    quiet: bool, interrupts: Interrupts | None = None
) -> Iterator[Callable[[Progress], None]]:
    heard = (interrupts or Interrupts()).heard()
    # what libraries print must not get between the caller and the JSON
    with heard, contextlib.redirect_stdout(sys.stderr), progress_bar(quiet) as draw:
        yield draw


def do_and_store(
    store: Store, run: Run, device: str, quiet: bool, *, name: str = "", keeping: bool = False
) -> Run:
    """Do a run on validation images as `execute_here`, and store it with its curves and file.

    Raises:
        KeyboardInterrupt: it was ended at once; nothing is stored.
        CompressionError: it cannot be done.
    """
    packed: list[bytes] = []
    done, curves = execute_here(
        run, device, quiet, store=store, keeping=keeping, keep=packed.append
    )
    store.runs.add(done, device, name=name)
    for curve in curves:
        store.curves.put(done.id, curve)
    for file in packed:
        store.files.put(done.id, file)
    return done


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """What draws a report on a terminal."""
    columns = (
        BarColumn(bar_width=20),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[training]}"),
    )
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    with Bar(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("Starting", total=1.0, training="")
        yield lambda p: bar.update(
            task,
            description=so_far(p),
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
