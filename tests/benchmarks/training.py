"""The distillation loop against a bare one: `python -m tests.benchmarks.training [--write]`.

Images per second of the loop that ships (random augmentation, validation checks, curve, reports)
against the shortest loop anyone would write with the same student, teacher, loss, optimizer and
batch, on images that were prepared beforehand; and against itself with the student's weights on
grids of 4 bits. In turn, in one process. On a GPU with `--device cuda`.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from compression.catalogue.cards import cards
from compression.data.datasets import FASHION_MNIST, load_dataset
from compression.data.splits import Dataset
from compression.measure.accuracy import predict
from compression.methods.distill.config import TrainingConfig
from compression.methods.distill.loop import distill
from compression.methods.quantize.weight_ranges import minmax
from compression.models.load import load_model
from compression.models.parametrize import compressible, parametrize_weight, weight_of
from compression.recipe.steps import Distill
from compression.runs.statistics import Interval, proportion
from tests.benchmarks.costs import machine
from tests.readme import BENCHMARKS, markdown_table, replace_section

RESULTS = Path(__file__).with_suffix(".json")
ROUNDS = 3
# Where products in bfloat16 are quicker than in float32, on a CPU with them.
ARITHMETIC = ("float32", "bfloat16")


def bare(
    student: nn.Module, teacher: nn.Module, data: Dataset, step: Distill, device: str
) -> float:
    """Seconds of the bare loop. Batches are on the device and prepared before the clock starts."""
    student.to(device).to(memory_format=torch.channels_last).train()
    teacher.to(device).to(memory_format=torch.channels_last).eval()
    count, size = int(step.images or 0), step.batch_size
    images = FASHION_MNIST(data.train.images[:count]).to(device).split(size)
    labels = data.train.labels[:count].to(device).split(size)
    optimizer = torch.optim.SGD(
        student.parameters(), step.learning_rate, 0.9, nesterov=True, weight_decay=1e-4
    )
    low = step.precision == "bfloat16"
    started = _now(device)
    for x, y in zip(images, labels, strict=True):
        with torch.autocast(device, torch.bfloat16, enabled=low):
            logits = student(x)
            with torch.no_grad():
                answers = teacher(x)
        t = step.temperature
        soft = F.kl_div(
            F.log_softmax(logits.float() / t, 1),
            F.softmax(answers.float() / t, 1),
            reduction="batchmean",
        )
        loss = step.alpha * t * t * soft + (1 - step.alpha) * F.cross_entropy(logits.float(), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _now(device) - started


def ours(
    student: nn.Module, teacher: nn.Module, data: Dataset, step: Distill, device: str
) -> float:
    """Seconds of the loop that ships, with its share of an epoch's validation checks."""
    share = int(step.images or 0) / len(data.train)
    checked = round(len(data.search) * TrainingConfig.checks_per_epoch * share)

    def validate(model: nn.Module) -> Interval:
        # a check comes before the first step and after the last: half of the share each
        predictions = predict(model, data.search.head(max(250, checked // 2)), device)
        return proportion(int(predictions.right.sum()), len(predictions.labels))

    calibration = [data.calibration.head(max(64, round(1000 * share))).prepared(device)]
    config = TrainingConfig(
        step, data.train, validate, 0, calibration=calibration, device=device, report=lambda _: None
    )
    started = _now(device)
    distill(student, teacher, config)
    return _now(device) - started


def _on_grids(model: nn.Module) -> nn.Module:
    """A copy whose weights are trained through grids of 4 bits."""
    student = copy.deepcopy(model)
    for _, layer in compressible(student):
        parametrize_weight(
            layer, None, minmax(weight_of(layer), 4, symmetric=True, per_channel=True)
        )
    return student


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(model: str, precision: str, count: int, batch: int, device: str) -> dict[str, Any]:
    """Both loops in turn; the first round warms up."""
    # with augmentation, or the teacher would be asked but once
    step = Distill(
        images=count,
        batch_size=batch,
        augmentation="random",
        precision=precision,  # type: ignore[arg-type]
    )
    data, teacher = load_dataset(str(cards()[model].dataset)), load_model(model)
    times: list[tuple[float, float, float]] = []
    for _ in range(ROUNDS + 1):
        students = copy.deepcopy(teacher), copy.deepcopy(teacher), _on_grids(teacher)
        loops = zip((bare, ours, ours), students, strict=True)
        first, second, third = (loop(s, teacher, data, step, device) for loop, s in loops)
        times.append((first, second, third))
    ratios = [b / o for b, o, _ in times[1:]]
    speed = count / statistics.median(o for _, o, _ in times[1:])
    return {
        "model": model,
        "precision": precision,
        "batch": batch,
        "device": torch.cuda.get_device_name() if device == "cuda" else machine(),
        "threads": torch.get_num_threads(),
        "images_per_second": float(f"{speed:.4g}"),
        "epoch_seconds": float(f"{len(data.train) / speed:.3g}"),
        "ratio": float(f"{statistics.median(ratios):.3g}"),
        "range": [float(f"{min(ratios):.3g}"), float(f"{max(ratios):.3g}")],
        "on_grids": float(f"{statistics.median(o / g for _, o, g in times[1:]):.3g}"),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table."""
    header = (
        "model",
        "arithmetic",
        "on",
        "images / s",
        "s / epoch",
        "against a bare loop",
        "range",
        "weights on grids",
    )
    return markdown_table(
        header,
        [
            [
                f"`{r['model'].rpartition('/')[2]}`",
                r["precision"],
                f"{r['device']}, batch {r['batch']}",
                f"{r['images_per_second']:,.0f}",
                f"{r['epoch_seconds']:.3g}",
                f"{r['ratio']:.2f}",
                f"{r['range'][0]:.2f} to {r['range'][1]:.2f}",
                f"{r['on_grids']:.2f}",
            ]
            for r in rows
        ],
        right=5,
    )


def main() -> None:
    """Measure, print; with --write keep, beside what other devices gave, and fill the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    bundled = [m for m, c in cards().items() if c.bundled]
    parser.add_argument("--models", default=",".join(bundled), help="ids, with commas between")
    parser.add_argument("--images", type=int, default=6400)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found: list[dict[str, Any]] = []
    for model in given.models.split(","):
        for precision in ARITHMETIC:
            found.append(compare(model, precision, given.images, given.batch, given.device))
            print(found[-1], flush=True)
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    new = {(r["model"], r["precision"], r["device"], r["batch"]) for r in found}
    kept = [r for r in before if (r["model"], r["precision"], r["device"], r["batch"]) not in new]
    rows = sorted([*kept, *found], key=lambda r: (r["device"], r["model"], r["precision"]))
    print(table(rows))
    if given.write:
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
        replace_section("training-speed", table(rows), BENCHMARKS)


if __name__ == "__main__":
    main()
