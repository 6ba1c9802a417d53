"""Train the bundled models: `python -m compression.models.pretrain resnet18`.

Writes `assets/models/NAME.safetensors` (half precision) and a card `NAME.json` beside it. Looks at
the training split only; the test split is read once, at the end, for the card.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from compression.catalogue.cards import Card
from compression.data.augmentation import shuffled_batches
from compression.data.datasets import INPUT_SHAPE, load_dataset
from compression.data.splits import Split, batches
from compression.models.load import (
    build,
    count_macs,
    describe_weights,
    parameter_bytes,
)
from compression.paths import assets_dir
from compression.runs.statistics import proportion


@dataclass(frozen=True)
class Training:
    """How one architecture is trained: one-cycle schedule, label smoothing, averaged weights."""

    optimizer: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    bf16: bool = False
    label_smoothing: float = 0.1
    ema_epochs: float = 1.0
    seed: int = 0


TRAININGS: dict[str, Training] = {
    "resnet18": Training("sgd", 30, 128, 0.1, 5e-4, bf16=True),
    "mobilenet_v2": Training("adamw", 30, 128, 3e-3, 0.05),
    "mobilenet_v3_small": Training("adamw", 40, 128, 3e-3, 0.05),
    "shufflenet_v2_x0_5": Training("adamw", 40, 128, 4e-3, 0.02),
    "squeezenet1_1": Training("adamw", 40, 128, 1e-3, 0.02, bf16=True),
}


def _optimizer(model: nn.Module, t: Training) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    if t.optimizer == "sgd":
        return torch.optim.SGD(
            groups, t.learning_rate, momentum=0.9, nesterov=True, weight_decay=t.weight_decay
        )
    return torch.optim.AdamW(groups, t.learning_rate, weight_decay=t.weight_decay)


@torch.inference_mode()
def _correct(model: nn.Module, split: Split) -> int:
    model.eval()
    hits = [(model(x).argmax(1) == y).sum().item() for x, y in batches(split, 500)]
    return int(sum(hits))


def train(name: str, t: Training, checkpoint: Path, threads: int) -> nn.Module:
    """Train from scratch and return the averaged model. Goes on from `checkpoint` if it exists."""
    torch.set_num_threads(threads)
    torch.manual_seed(t.seed)
    data = load_dataset("fashion-mnist")
    model = build(name, len(data.classes))
    model = model.to(memory_format=torch.channels_last)
    optimizer = _optimizer(model, t)
    steps = len(data.train) // t.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, t.learning_rate, epochs=t.epochs, steps_per_epoch=steps, pct_start=0.2
    )
    averaged = copy.deepcopy(model)
    decay = math.exp(-1 / (t.ema_epochs * steps))
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["epoch"]
    for epoch in range(first, t.epochs):
        generator = torch.Generator().manual_seed(t.seed * 1000 + epoch)
        torch.manual_seed(t.seed * 1000 + epoch)
        model.train()
        started, total = time.perf_counter(), 0.0
        for x, y in shuffled_batches(data.train, t.batch_size, generator):
            with torch.autocast("cpu", torch.bfloat16, enabled=t.bf16):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=t.label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            with torch.no_grad():
                for kept, new in zip(
                    averaged.state_dict().values(), model.state_dict().values(), strict=True
                ):
                    if kept.is_floating_point():
                        kept.lerp_(new, 1 - decay)
                    else:
                        kept.copy_(new)
        accuracy = 100 * _correct(averaged, data.validation) / len(data.validation)
        print(
            f"{name} epoch {epoch + 1}/{t.epochs} loss {total / steps:.4f} "
            f"validation {accuracy:.2f} % {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        torch.save(
            {
                "model": model.state_dict(),
                "averaged": averaged.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "epoch": epoch + 1,
            },
            checkpoint,
        )
    return averaged


def write_bundle(name: str, model: nn.Module, t: Training) -> Path:
    """Write half-precision weights, then the card, measured on exactly those weights."""
    folder = assets_dir() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    half = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    save_file(half, path)
    data = load_dataset("fashion-mnist")
    shipped = build(name, len(data.classes))
    shipped.load_state_dict({k: v.to(model.state_dict()[k].dtype) for k, v in half.items()})
    card = Card(
        id=f"fashion-mnist/{name}",
        title=f"{name} (Fashion-MNIST)",
        architecture=name,
        dataset=data.id,
        classes=len(data.classes),
        input_shape=INPUT_SHAPE,
        parameters=sum(p.numel() for p in shipped.parameters()),
        macs=count_macs(shipped, INPUT_SHAPE),
        dense_bytes=parameter_bytes(shipped),
        bundled=True,
        file=path.name,
        test_top1=proportion(_correct(shipped, data.test), len(data.test)),
        training=(
            f"{t.epochs} epochs on {len(data.train):,} images, {t.optimizer}, "
            f"batch {t.batch_size}, one-cycle learning rate up to {t.learning_rate:g}, "
            f"weight decay {t.weight_decay:g}, "
            f"label smoothing {t.label_smoothing:g}, flips, shifts, random erasing, "
            "averaged weights"
        ),
        licence="MIT",
        date=datetime.date.today().isoformat(),
        weights=describe_weights(shipped),
    )
    path.with_suffix(".json").write_text(card.model_dump_json(exclude_defaults=True) + "\n")
    return path


def main() -> None:
    """Train the named architectures, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(TRAININGS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--checkpoints", type=Path, default=Path("training"))
    args = parser.parse_args()
    for name in args.names:
        started = time.perf_counter()
        t = TRAININGS[name]
        model = train(name, t, args.checkpoints / f"{name}.pt", args.threads)
        path = write_bundle(name, model, t)
        print(f"{name}: {path} written after {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
