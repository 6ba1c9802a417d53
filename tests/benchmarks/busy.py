"""Whether a busy machine is noticed: `python -m tests.benchmarks.busy [--write]`.

Takes the int8 latency ratio of one recipe on the smallest bundled model, as a run does: first some
times while the machine is quiet, whose intervals are pooled; then beside other programs that keep
the cores busy, all the time or off and on. What counts is how many ratios that were not marked are
outside the quiet interval: one in twenty at most.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compression.catalogue.backends import INT8, ONNX
from compression.catalogue.cards import cards
from compression.measure.backend_timing import Pair, threads_available, time_pair
from compression.measure.deployed_models import pair_of
from compression.methods.pipeline import compress
from compression.models.parametrize import materialize
from compression.models.target import target_of
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Quantize
from compression.runs.results import Timing
from tests.benchmarks.costs import machine
from tests.readme import BENCHMARKS, markdown_table, replace_section

RESULTS = Path(__file__).with_suffix(".json")
MODEL = min((c for c in cards().values() if c.bundled), key=lambda c: c.parameters).id
RECIPE = Recipe(steps=(Quantize(bits=8, activation_bits=8),))
QUIET_RUNS, BUSY_RUNS, TARGET = 20, 20, 0.05
# What another program does; the second gets the number of its random sequence.
LOADS = {
    "all the time": "while True: pass",
    "off and on": (
        "import random, sys, time\n"
        "draw = random.Random(int(sys.argv[1])).uniform\n"
        "while True:\n"
        "    until = time.time() + draw(0.1, 4)\n"
        "    while time.time() < until: pass\n"
        "    time.sleep(draw(0.1, 8))\n"
    ),
}


@dataclass(frozen=True)
class Taken:
    """The ratio of one run with its interval, what was read meanwhile, and the seconds it took."""

    value: float
    low: float
    high: float
    marked: bool
    waiting: float | None
    switches: float | None
    others: float | None
    seconds: float


def taker() -> Callable[[], Taken]:
    """What measures the ratio once, as a run does, with everything made ready anew."""
    target = target_of(MODEL, RECIPE, device="cpu")
    model = materialize(compress(target, RECIPE).model)
    pair = pair_of(target, model, Pair(target.macs, target.macs), RECIPE)

    def take() -> Taken:
        started = time.perf_counter()
        timed = time_pair(pair.original, pair.compressed, (ONNX, INT8), target.images(1))
        (int8,) = (t for t in timed.timings if t.backend == INT8)
        return _taken(int8, time.perf_counter() - started)

    return take


def _taken(timing: Timing, seconds: float) -> Taken:
    return Taken(
        **{k: round(v, 4) for k, v in timing.ratio.model_dump().items()},
        marked=timing.compressed.on_busy_machine,
        waiting=_short(timing.waiting),
        switches=_short(timing.switches),
        others=_short(timing.busy),
        seconds=round(seconds, 1),
    )


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


@contextlib.contextmanager
def programs(load: str, count: int) -> Iterator[None]:
    """So many other programs that compute, until the end of the block."""
    started = [
        subprocess.Popen([sys.executable, "-c", LOADS[load], str(number)])
        for number in range(count)
    ]
    try:
        yield
    finally:
        for program in started:
            program.kill()
            program.wait()


def measure(
    quiet_runs: int, busy_runs: int, processes: int, *, strict: bool = False
) -> dict[str, Any]:
    """All runs, quiet and beside every load; prints each.

    Args:
        quiet_runs: how many while nothing else runs.
        busy_runs: how many beside each load.
        processes: how many programs each load is of.
        strict: whether to go no further where other programs run during the quiet runs.

    Raises:
        SystemExit: they did.
    """
    take, wait = taker(), random.Random(0).uniform
    quiet = [_printed("quiet", take()) for _ in range(quiet_runs)]
    if strict and any(run.marked for run in quiet):
        raise SystemExit("The machine is not quiet: nothing is kept.")
    busy: dict[str, list[Taken]] = {}
    for load in LOADS:
        with programs(load, processes):
            for _ in range(busy_runs):
                time.sleep(wait(0.5, 2))
                busy.setdefault(load, []).append(_printed(load, take()))
    return {
        "machine": machine(),
        "model": MODEL,
        "recipe": RECIPE.brief,
        "processes": processes,
        "quiet": [asdict(each) for each in quiet],
        "busy": {load: [asdict(each) for each in taken] for load, taken in busy.items()},
    }


def _printed(load: str, taken: Taken) -> Taken:
    print(f"{load}: {json.dumps(asdict(taken))}", flush=True)
    return taken


def pooled(quiet: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """The interval that holds those of all runs."""
    return min(run["low"] for run in quiet), max(run["high"] for run in quiet)


def outside(runs: Sequence[dict[str, Any]], interval: tuple[float, float]) -> int:
    """How many ratios are outside an interval."""
    low, high = interval
    return sum(not low <= run["value"] <= high for run in runs)


def table(found: dict[str, Any]) -> str:
    """The README's table; what there is to do where nothing has been measured."""
    if not found:
        return "Not measured yet: it needs a machine on which nothing else runs."
    interval, rows = pooled(found["quiet"]), []
    for load, runs in found["busy"].items():
        unmarked = [run for run in runs if not run["marked"]]
        rows.append(
            [
                load,
                str(len(runs)),
                f"{outside(runs, interval)}",
                str(len(runs) - len(unmarked)),
                f"{outside(unmarked, interval)} of {len(unmarked)}",
            ]
        )
    every = [run for runs in found["busy"].values() for run in runs if not run["marked"]]
    share = outside(every, interval) / max(1, len(every))
    header = ("other programs compute", "runs", "outside", "marked", "outside, not marked")
    return (
        f"{markdown_table(header, rows, right=4)}\n\n"
        f"Outside without a mark: {100 * share:.3g} % (at most {100 * TARGET:.3g} % is the aim). "
        f"`{found['model'].rpartition('/')[2]}`, int8 against float32: {interval[0]:.3g} to "
        f"{interval[1]:.3g} x in {len(found['quiet'])} quiet runs; then beside "
        f"{found['processes']} programs. {found['machine']}."
    )


def main() -> None:
    """Measure and print; with --write keep the results and fill the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quiet-runs", type=int, default=QUIET_RUNS)
    parser.add_argument("--runs", type=int, default=BUSY_RUNS, help="beside each load")
    parser.add_argument("--processes", type=int, default=threads_available())
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = measure(given.quiet_runs, given.runs, given.processes, strict=given.write)
    print(table(found))
    if given.write:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        replace_section("busy", table(found), BENCHMARKS)


if __name__ == "__main__":
    main()
