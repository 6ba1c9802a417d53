"""What each preset takes: `python -m tests.benchmarks.costs [--models A,B] [--write]`.

Times `compress()` of pruning to 80 % and 4 bits with each preset on each bundled model, one after
the other, each in a process and a cache of its own; loading the model and its images is not
counted. With --write the seconds go to assets/costs.json, which the page and `compression presets`
read, and into the README.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from compression.catalogue.cards import card, cards
from compression.catalogue.preset_timings import Costs, costs, costs_path
from compression.recipe.presets import PRESETS, apply_preset
from compression.recipe.recipe import Recipe, parse
from tests.readme import RECIPE, replace_section
from tests.readme.tables import presets_table

ASKED: tuple[dict[str, Any], ...] = (
    {"step": "prune", "sparsity": 0.8},
    {"step": "quantize", "bits": 4},
)
COMMAND = "compression run MODEL --sparsity 0.8 --bits 4 --preset PRESET --device cpu"


def seconds(model: str, preset: str) -> float:
    """Seconds that `compress()` takes in this process, for the first time."""
    recipe = parse(Recipe, {"steps": [apply_preset(preset, values) for values in ASKED]})
    # torch, once it is known what there is to do
    from compression.data.datasets import load_dataset
    from compression.methods.pipeline import compress

    compress(model, Recipe(), device="cpu")
    load_dataset(str(card(model).dataset))
    started = time.perf_counter()
    compress(model, recipe, device="cpu")
    return time.perf_counter() - started


def measured_apart(model: str, preset: str) -> float:
    """The same in a new process with an empty cache.

    Raises:
        SystemExit: it failed; with what it said last.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.costs", "--one", model, preset],
            env=os.environ | {"COMPRESSION_CACHE": folder},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"{model}, {preset}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.splitlines()[-1])


def machine() -> str:
    """Processor and number of cores."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def write(found: Costs, path: Path) -> None:
    """Put seconds beside those that are in the file already."""
    before = Costs.model_validate_json(path.read_bytes()) if path.exists() else Costs()
    same = before.machine == found.machine and before.command == found.command
    kept = before.seconds if same else {}
    merged = {m: kept.get(m, {}) | taken for m, taken in found.seconds.items()}
    whole = found.model_copy(update={"seconds": dict(sorted((kept | merged).items()))})
    path.write_text(json.dumps(whole.model_dump(), indent=1) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; with --write keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    bundled = [m for m, c in cards().items() if c.bundled]
    parser.add_argument("--models", default=",".join(bundled), help="ids, with commas between")
    parser.add_argument("--presets", default=",".join(PRESETS), help="names, with commas between")
    parser.add_argument("--write", action="store_true", help="to assets/costs.json and the README")
    parser.add_argument("--to", type=Path, help="write to this file instead, and not the README")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "PRESET"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        print(seconds(*given.one))
        return
    found: dict[str, dict[str, float]] = {}
    for model in given.models.split(","):
        for preset in given.presets.split(","):
            taken = float(f"{measured_apart(model, preset):.3g}")
            found.setdefault(model, {})[preset] = taken
            print(f"{model} {preset}: {taken} s", flush=True)
    if given.to or given.write:
        write(Costs(machine=machine(), command=COMMAND, seconds=found), given.to or costs_path())
    if given.write and not given.to:
        costs.cache_clear()
        replace_section("presets", presets_table(), RECIPE)


if __name__ == "__main__":
    main()
