"""Our engine against its peers. `uv run --group peers python -m tests.benchmarks.peers --write`

Every method compresses each model in each cell, calibrated on the same images. A method with
several variants shows the one that is best on the validation images; the test images are looked
at with that one alone. Results are appended to a file, and what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compression.catalogue.cards import cards
from compression.errors import CompressionError
from tests.benchmarks.peers.cells import CELLS, FILES, SWEEP
from tests.benchmarks.peers.methods import METHODS, ORIGINAL, check, missing
from tests.benchmarks.peers.results import Key, Result, append, best, read
from tests.benchmarks.peers.sizes import chosen
from tests.benchmarks.peers.table import report
from tests.readme import BENCHMARKS, replace_section

TASK = ("model", "cell", "variant", "split")
RESULTS = Path(__file__).parent / "results.jsonl"
COMMAND = "python -m tests.benchmarks.peers"


@dataclass(frozen=True)
class Plan:
    """What the command line says."""

    models: list[str]
    cells: list[str]
    methods: list[str]
    split: str
    threads: int
    file: Path
    again: bool


def run(plan: Plan) -> None:
    """Run whatever the file does not hold yet, method by method."""
    _method(plan, ORIGINAL, [(m, ORIGINAL, "", plan.split) for m in plan.models])
    for name in plan.methods:
        if SWEEP in METHODS[name].variants:
            _sweep(plan, name)
        else:
            _compare(plan, name)


def _compare(plan: Plan, name: str) -> None:
    """All variants on the validation images, then the best of each cell on the split."""
    every = [
        (model, cell, variant)
        for model in plan.models
        for cell in plan.cells
        for variant in METHODS[name].variants.get(cell, ())
    ]
    if plan.split == "validation":
        _method(plan, name, [(*one, "validation") for one in every])
        return
    rivals = {(m, c): [v for a, b, v in every if (a, b) == (m, c)] for m, c, _ in every}
    validated = [t for t in every if len(rivals[t[0], t[1]]) > 1 or t[1] in FILES]
    _method(plan, ORIGINAL, [(m, ORIGINAL, "", "validation") for m in plan.models])
    _method(plan, name, [(*one, "validation") for one in validated])
    known = read(plan.file)
    winners = ((m, c, _choose(known, name, m, c, vs)) for (m, c), vs in rivals.items())
    _method(plan, name, [(m, c, v, plan.split) for m, c, v in winners if v is not None])


def _sweep(plan: Plan, name: str) -> None:
    """All files on the validation images, then those that stand against one of ours."""
    variants = METHODS[name].variants[SWEEP]
    _method(plan, ORIGINAL, [(m, ORIGINAL, "", "validation") for m in plan.models])
    _method(plan, name, [(m, SWEEP, v, "validation") for m in plan.models for v in variants])
    known = read(plan.file)
    pairs = [chosen(known, m, cell) for m in plan.models for cell in FILES if cell in plan.cells]
    peers = {(r.model, SWEEP, r.variant, plan.split): None for _, r in pairs if r}
    _method(plan, name, peers)


def _choose(
    known: dict[Key, Result], name: str, model: str, cell: str, variants: list[str]
) -> str | None:
    if len(variants) == 1:
        return variants[0]
    tried = (known.get((name, model, cell, v, "validation")) for v in variants)
    won = best(r for r in tried if r)
    return won.variant if won else None


def _method(plan: Plan, name: str, tasks: Iterable[tuple[str, str, str, str]]) -> None:
    known = read(plan.file)
    again = plan.again and name != ORIGINAL
    todo = [t for t in tasks if again or (name, *t) not in known]
    for result in _answers(plan, name, todo):
        before = known.get((ORIGINAL, result.model, ORIGINAL, "", result.split))
        done = _compared(before, result) if before and not result.reason else result
        append(plan.file, done)
        known[done.key] = done
        print(_line(done), flush=True)


def _answers(plan: Plan, name: str, tasks: list[tuple[str, str, str, str]]) -> Iterator[Result]:
    if not tasks:
        return
    # Peers that report their use to their makers do not when they believe to be under test.
    quiet = {"CI": "true", "NNCF_CI": "true", "OMP_NUM_THREADS": str(plan.threads)}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.peers.child", name, str(plan.threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if "PEERS_VERBOSE" in os.environ else subprocess.DEVNULL,
        text=True,
        env={**os.environ, **quiet},
    )
    assert process.stdin and process.stdout
    with process:
        for where in tasks:
            fields: dict[str, Any] = dict(zip(TASK, where, strict=True))
            process.stdin.write(json.dumps(fields) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise CompressionError(f"{name}: its process ended; PEERS_VERBOSE=1 shows why")
            command = f"{COMMAND} --methods {name} --models {where[0]} --cells {where[1]}"
            yield Result(method=name, **fields, **json.loads(answer), command=command)
        process.stdin.close()


def _compared(before: Result, after: Result) -> Result:
    a, b = before.bits, after.bits
    return replace(after, lost=int((a & ~b).sum()), gained=int((~a & b).sum()))


def _line(result: Result) -> str:
    where = f"{result.method:14} {result.model:34} {result.cell:7} {result.variant:28}"
    if result.reason:
        return f"{where} {result.split:10} {result.reason}"
    change = 100 * (result.gained - result.lost) / result.n
    top1 = f"{100 * result.bits.mean():6.2f} {change:+7.2f}"
    cost = f"{result.seconds:7.1f} s {result.peak_mib:7.0f} MiB"
    return f"{where} {result.split:10} {top1} {cost} {result.facts}"


def _plan() -> tuple[Plan, argparse.Namespace]:
    bundled = [name for name, card in cards().items() if card.bundled]
    methods = [name for name in METHODS if name != ORIGINAL]
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--models", nargs="+", default=bundled, metavar="MODEL")
    parser.add_argument("--cells", nargs="+", default=list(CELLS), metavar="CELL")
    parser.add_argument("--methods", nargs="+", default=methods, metavar="METHOD")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--again", action="store_true", help="run what the file holds, too")
    parser.add_argument("--table-only", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help="put the tables into the README")
    args = parser.parse_args()
    plan = Plan(
        models=check("--models", args.models, bundled),
        cells=check("--cells", args.cells, list(CELLS)),
        methods=check("--methods", args.methods, methods),
        split=args.split,
        threads=max(1, args.threads),
        file=args.results,
        again=args.again,
    )
    return plan, args


def main() -> None:
    """Run what is missing, print the tables, and with --write put them into the README."""
    try:
        plan, args = _plan()
        if not args.table_only:
            absent = missing(plan.methods)
            if absent:
                raise CompressionError("\n".join(["not installed:", *absent]))
            run(plan)
        text = report(read(plan.file), plan.models, plan.cells, plan.split)
    except CompressionError as error:
        sys.exit(str(error))
    print(text)
    if args.write:
        replace_section("peers", text, BENCHMARKS)


if __name__ == "__main__":
    main()
