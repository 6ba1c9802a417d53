"""The tables of what benchmarks measured, from the results that they stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compression.catalogue.cards import cards
from compression.catalogue.examples import Example, examples
from tests.readme import BENCHMARKS, README, markdown_table, section

FOLDER = BENCHMARKS.parent


def stored(name: str) -> Any:
    """What a benchmark stored, as JSON."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def results_table() -> str:
    """A row for each bundled model: how small without training, how fast as int8, what it costs."""
    from tests.benchmarks.peers.results import read
    from tests.benchmarks.peers.table import OURS, entry, points

    sizes = {row["model"]: row["smallest"] for row in stored("smallest.json")}
    times = stored("deploy/results.json")
    peers = read(FOLDER / "peers" / "results.jsonl")
    rows = []
    for card in cards().values():
        if not card.bundled or card.test_top1 is None:
            continue
        size, change = sizes[card.id], sizes[card.id]["test"]["change"]
        int8 = entry(peers, OURS, card.id, "W8A8", "test").change
        assert int8 is not None
        rows.append(
            [
                f"`{card.id.rpartition('/')[2]}`",
                f"{card.dense_bytes / 1e6:.3g} MB",
                f"{100 * card.test_top1.value:.1f} %",
                f"{size['bytes'] / 1e3:.3g} kB, {size['ratio']:.3g}x",
                f"{change[0]:+.2f} ± {(change[2] - change[1]) / 2:.2f}",
                f"{times[card.id]['ratio']['int8, ours']['value']:.2f}x",
                points(int8),
            ]
        )
    header = ("model", "float32 file", "top-1", "smallest file", "change, points")
    table = markdown_table((*header, "int8 latency", "change, points"), rows, right=6)
    return "\n\n".join([table, *map(_with_training, examples())])


def _with_training(example: Example) -> str:
    measured = example.certificate
    assert measured is not None and measured.compressed is not None and measured.delta is not None
    size, delta = measured.compressed.artifact_bytes, measured.delta
    assert delta.top1 is not None and delta.size_ratio is not None
    epochs = sum(getattr(step, "epochs", 0) for step in example.run.recipe.steps)
    half = 50 * (delta.top1.high - delta.top1.low)
    return (
        f"With {epochs} epochs of training, `--preset {example.name}` shrinks "
        f"`{example.run.model.rpartition('/')[2]}` to {size / 1e3:.3g} kB, "
        f"{delta.size_ratio:.0f}x, for {100 * delta.top1.value:+.2f} ± {half:.2f} points."
    )


def smallest() -> str:
    """How small models get without training; as it stands while some models were measured by an
    older version, which reported what it searched on."""
    from tests.benchmarks.smallest import table

    rows = stored("smallest.json")
    current = all("report" in row["smallest"] for row in rows)
    return table(rows) if current else section("smallest", BENCHMARKS)


def training_speed() -> str:
    """How fast training is."""
    from tests.benchmarks.training import table

    return table(stored("training.json"))


def deploy() -> str:
    """How fast each file is in each engine, and how large."""
    from tests.benchmarks.deploy.__main__ import tables

    return tables(stored("deploy/results.json"))


def busy() -> str:
    """Whether a busy machine is noticed."""
    from tests.benchmarks.busy import RESULTS, table

    return table(stored(RESULTS.name) if RESULTS.exists() else {})


def peers() -> str:
    """Against other libraries, on the test images."""
    from tests.benchmarks.peers.cells import CELLS
    from tests.benchmarks.peers.results import read
    from tests.benchmarks.peers.table import report

    bundled = [card.id for card in cards().values() if card.bundled]
    return report(read(FOLDER / "peers" / "results.jsonl"), bundled, list(CELLS), "test")


def distillation() -> str:
    """What training wins back. The originals' predictions are those stored beside the peers'."""
    from tests.benchmarks.distillation import read, table
    from tests.benchmarks.peers.methods import ORIGINAL
    from tests.benchmarks.peers.results import read as read_peers

    known, trained = read_peers(FOLDER / "peers" / "results.jsonl"), read()
    models = {cell.model for cell in trained}
    keys = {model: (ORIGINAL, model, ORIGINAL, "", "test") for model in models}
    return table(trained, {model: known[key].bits for model, key in keys.items()})


MEASURED: dict[str, tuple[Path, Callable[[], str]]] = {
    "results": (README, results_table),
    "peers": (BENCHMARKS, peers),
    "smallest": (BENCHMARKS, smallest),
    "distillation": (BENCHMARKS, distillation),
    "training-speed": (BENCHMARKS, training_speed),
    "deploy": (BENCHMARKS, deploy),
    "busy": (BENCHMARKS, busy),
}
