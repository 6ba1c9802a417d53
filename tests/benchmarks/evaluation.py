"""Evaluation against a bare `model(x)` loop: `python -m tests.benchmarks.evaluation [--write]`.

Both see the same validation images in the same batches, in turn, in one process. The bare loop's
images are prepared beforehand, so that the ratio charges our evaluation for its preparation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from compression.catalogue.cards import cards
from compression.data.datasets import FASHION_MNIST, load_dataset
from compression.data.splits import BATCH
from compression.measure.accuracy import predict
from compression.models.load import load_model
from tests.readme import BENCHMARKS, markdown_table, replace_section

ROUNDS = 5


def bare_loop(model: nn.Module, batches: list[torch.Tensor]) -> None:
    """What anyone would write first."""
    with torch.no_grad():
        for x in batches:
            model(x).argmax(1)


def seconds(call: Callable[[], object]) -> float:
    """Seconds one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Print the table; with --write put it into the README too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for model_id in (m for m, c in cards().items() if c.bundled):
        split = load_dataset(str(cards()[model_id].dataset)).validation
        bare, ours = load_model(model_id), load_model(model_id)
        bare = bare.to(memory_format=torch.contiguous_format)
        batches = [FASHION_MNIST(part).contiguous() for part in split.images.split(BATCH)]
        times: list[tuple[float, float]] = []
        for _ in range(ROUNDS + 1):
            loop = seconds(lambda bare=bare, batches=batches: bare_loop(bare, batches))  # type: ignore[misc]
            times.append((loop, seconds(lambda ours=ours, split=split: predict(ours, split))))  # type: ignore[misc]
        ratios = [loop / mine for loop, mine in times[1:]]
        mine = statistics.median(t for _, t in times[1:])
        rows.append(
            [
                model_id,
                f"{len(split) / mine:,.0f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
            ]
        )
        print(rows[-1], flush=True)
    table = markdown_table(("model", "images / s", "against a bare loop", "range"), rows, right=3)
    print(table)
    if args.write:
        replace_section("evaluation", table, BENCHMARKS)


if __name__ == "__main__":
    main()
