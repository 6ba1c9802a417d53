"""Is the time of a run foreseen? `python -m tests.benchmarks.run_duration [--write]`.

Short runs of the two smallest bundled models, mixed as a person would ask for them, one after the
other into an empty store with an empty cache. Each is estimated by those before it, as the page
does before Run is clicked, and then done. What counts is how many estimates are within a factor of
1.5 of the seconds that the run took: nine of ten at least. `--estimate` estimates the stored runs
again, without doing them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.catalogue.cards import cards
from compression.catalogue.preset_timings import preset_seconds
from compression.paths import configure_process
from compression.recipe.presets import apply_preset
from compression.recipe.recipe import Recipe, parse
from compression.recipe.short_name import short_name
from compression.runs.durations.expected import estimate
from compression.runs.results import Run, State
from compression.runs.store import new_run, open_store
from tests.benchmarks.costs import machine
from tests.readme import BENCHMARKS, markdown_table, replace_section

RESULTS = Path(__file__).with_suffix(".json")
FACTOR, TARGET = 1.5, 0.9
# The share of the machine that other programs may use while it counts as quiet: a core of two.
MOST_USED = 0.55
_BUNDLED = sorted((c for c in cards().values() if c.bundled), key=lambda c: c.parameters)
MODELS = tuple(c.id for c in _BUNDLED[:2])
_TRAINING: dict[str, Any] = {"step": "distill", "images": 2000}
# Preset and steps, in the order that they are asked for.
ASKED: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = (
    ("fast", ({"step": "prune", "sparsity": 0.8}, {"step": "quantize", "bits": 4})),
    ("fast", ({"step": "quantize", "bits": 8},)),
    ("fast", ({"step": "prune", "sparsity": 0.9}, {"step": "quantize", "bits": 3})),
    ("better", ({"step": "prune", "sparsity": 0.8}, {"step": "quantize", "bits": 4})),
    ("fast", ({"step": "prune", "max_drop": 1.0},)),
    ("fast", ({"step": "quantize", "bits": 3}, _TRAINING)),
    ("better", ({"step": "prune", "sparsity": 0.9}, {"step": "quantize", "bits": 3})),
    ("fast", ({"step": "prune", "max_drop": 1.0}, {"step": "quantize", "bits": 4})),
    ("fast", ({"step": "quantize", "bits": 3}, {**_TRAINING, "images": 10_000})),
    ("better", ({"step": "quantize", "keep_accuracy": 0.98},)),
    ("fast", ({"step": "quantize", "bits": 8, "activation_bits": 8},)),
    ("better", ({"step": "prune", "max_drop": 0.5}, {"step": "quantize", "bits": 4})),
    (
        "fast",
        (
            {"step": "prune", "sparsity": 0.9},
            {"step": "quantize", "bits": 3},
            {**_TRAINING, "images": 5000, "epochs": 3},
        ),
    ),
    ("better", ({"step": "quantize", "keep_accuracy": 0.99},)),
)


@dataclass(frozen=True)
class Foreseen:
    """A run, the seconds it was estimated to take by those before it, and those it took."""

    model: str
    name: str
    estimated: float | None
    seconds: float
    busy: bool

    @property
    def ratio(self) -> float | None:
        """Taken over estimated; None without an estimate."""
        return None if self.estimated is None else self.seconds / self.estimated

    @property
    def within(self) -> bool:
        """Whether the estimate is within the factor."""
        return self.ratio is not None and abs(math.log(self.ratio)) <= math.log(FACTOR)


def asked() -> Iterator[tuple[str, Recipe]]:
    """Models and recipes in the order of their runs: each recipe on one model, then the other."""
    for preset, steps in ASKED:
        for model in MODELS:
            yield model, parse(Recipe, {"steps": [apply_preset(preset, s) for s in steps]})


def foresee(rows: Sequence[dict[str, Any]]) -> list[Foreseen]:
    """Every run with the estimate before it."""
    earlier: dict[str, list[Run]] = {}
    foreseen = []
    for row in rows:
        run = run_of(row)
        before = earlier.setdefault(run.model, [])
        seconds = estimate(run.recipe, before, preset_seconds(run.model, run.recipe))
        assert run.seconds is not None
        name = short_name(run.recipe)
        foreseen.append(Foreseen(run.model, name, seconds, run.seconds, row["busy"]))
        before.append(run)
    return foreseen


def row_of(run: Run, others: float = 0.0) -> dict[str, Any]:
    """What is stored of a run: all that an estimate goes by, and how busy the machine was.

    Args:
        run: it is done.
        others: the share of the machine that other programs used meanwhile, from 0 to 1.
    """
    repeated = any(t.baseline.on_busy_machine for t in run.timings)
    return {
        "model": run.model,
        "recipe": run.recipe.brief,
        "seconds": round(run.seconds or 0.0, 3),
        "stages": [t.model_dump(mode="json", exclude_none=True) for t in run.stages],
        "compressed": run.compressed.model_dump(mode="json") if run.compressed else None,
        "busy": repeated or others > MOST_USED,
        "others": round(others, 2),
    }


def run_of(row: dict[str, Any]) -> Run:
    """The finished run that a row is of."""
    run = new_run(row["model"], "fashion-mnist", parse(Recipe, row["recipe"]), State.DONE)
    kept = {name: row[name] for name in ("seconds", "stages", "compressed")}
    return Run.model_validate(json.loads(run.to_json()) | kept)


def measure(count: int) -> Iterator[dict[str, Any]]:
    """Do the first so many runs. For a process of its own: its cache is set."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COMPRESSION_CACHE"] = str(Path(folder, "cache"))
        # torch, once it is known what there is to do
        from compression.jobs.execute import execute
        from compression.measure.cpu_pinning import BackgroundLoad

        store = open_store(f"sqlite:///{Path(folder, 'runs.sqlite')}")
        for model, recipe in list(asked())[:count]:
            load = BackgroundLoad()
            run = execute(new_run(model, "fashion-mnist", recipe), device="cpu", store=store)
            store.runs.add(run)
            yield row_of(run, load.share() or 0.0)


def table(found: dict[str, Any]) -> str:
    """The README's table, and how many estimates are good."""
    foreseen = foresee(found["runs"])
    estimated = [f for f in foreseen if f.estimated is not None]
    good, quiet = sum(f.within for f in estimated), [f for f in estimated if not f.busy]
    ratios = sorted(f.ratio for f in estimated if f.ratio is not None)
    lines = [_line(f) for f in foreseen]
    header = ("model", "run", "estimated", "taken", "taken / estimated")
    summary = (
        f"{good} of {len(estimated)} estimates are within a factor of {FACTOR:g} "
        f"({100 * good / max(1, len(estimated)):.0f} %; ratios from {ratios[0]:.2f} to "
        f"{ratios[-1]:.2f}). For {len(foreseen) - len(estimated)} of {len(foreseen)} runs nothing "
        f"told. Runs marked * took longer: other programs used the machine meanwhile, or latency "
        f"was measured again because of them. Of the {len(quiet)} others that were estimated, "
        f"{sum(f.within for f in quiet)} are within it. {found['machine']}; one process with "
        f"{found['threads']} thread(s)."
    )
    return f"{markdown_table(header, lines, right=3)}\n\n{summary}"


def _line(f: Foreseen) -> list[str]:
    ratio = "-" if f.ratio is None else f"{f.ratio:.2f}"
    estimated = "none" if f.estimated is None else f"{f.estimated:.1f} s"
    mark = " *" if f.busy else ""
    return [
        f"`{f.model.rpartition('/')[2]}`",
        f.name,
        estimated,
        f"{f.seconds:.1f} s{mark}",
        ratio if f.within or f.ratio is None else f"**{ratio}**",
    ]


def main() -> None:
    """Measure and print; with --write keep the results and fill the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    every = len(list(asked()))
    parser.add_argument("--runs", type=int, default=every, help="only the first so many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--estimate", action="store_true", help="of the stored runs, anew")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.estimate:
        found = json.loads(RESULTS.read_text())
    else:
        configure_process()
        import torch

        torch.set_num_threads(given.threads)
        found = {"machine": machine(), "threads": given.threads, "runs": []}
        for row in measure(given.runs):
            found["runs"].append(row)
            print(_line(foresee(found["runs"])[-1]), flush=True)
            if given.write:  # it takes long: what is done stays
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    if given.write:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        replace_section("run-duration", table(found), BENCHMARKS)


if __name__ == "__main__":
    main()
