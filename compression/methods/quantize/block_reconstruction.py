"""Block reconstruction: the weights of a compressed model, still masked and on their grids, are
tuned until each block's output is nearest the reference's. No labels, calibration images only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from compression.data.splits import PreparedBatches, Split
from compression.models.hooks import hooked
from compression.models.parametrize import (
    compressible,
    grid_of,
    stored_weight,
)

EPOCHS = 12
BATCH = 64
# Largest step of a weight, in steps of its grid; of other parameters and of weights without one,
# relative to their root mean square.
GRID_RATE = 0.003
FREE_RATE = 0.002
# Every so many images are kept out, to see whether tuning helped.
HELD_OUT = 5


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost parts of a model that are more than a sequence and hold weights, by name."""
    outermost: dict[str, nn.Module] = {}

    def gather(name: str, module: nn.Module) -> None:
        if not any(True for _ in compressible(module)):
            return
        if name and type(module) is not nn.Sequential:
            outermost[name] = module
            return
        for key, child in module.named_children():
            gather(f"{name}.{key}" if name else key, child)

    gather("", model)
    return outermost


def reconstruct(
    model: nn.Module,
    reference: nn.Module,
    images: Split,
    *,
    device: str = "cpu",
    at_once: int = BATCH,
    seed: int,
    report: Callable[[float], None],
    epochs: int = EPOCHS,
    grid_rate: float = GRID_RATE,
    free_rate: float = FREE_RATE,
) -> bool:
    """Tune `model` in place; whether that brought it nearer on images kept out of the tuning.

    The loss is the squared error of every block's output relative to the output's power, summed
    (BRECQ, Li et al., 2021, with all blocks at once). Gradients pass through the rounding (Bengio
    et al., 2013). If the images kept out say that it did not help, the model stays as it was.

    Args:
        reference: of the same structure; its blocks' outputs are the targets.
        images: to calibrate on; every fifth is kept out.
        device: where the models are.
        at_once: of how many images memory can hold all activations.
        seed: of the order of the images.
        report: gets the fraction of steps done.
        epochs: passes over the images.
        grid_rate: largest step of a weight, in steps of its grid.
        free_rate: of other parameters, relative to their root mean square.
    """
    kept = torch.arange(len(images)) % HELD_OUT == 0
    held_out, train = images.picked(kept), images.picked(~kept)
    before = copy.deepcopy(model.state_dict())
    checked = PreparedBatches(held_out, min(4 * BATCH, 2 * at_once), device)
    start = _loss_on(model, reference, checked)
    optimizer = torch.optim.Adam(_groups(model, grid_rate, free_rate))
    steps = epochs * -(-len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    done = 0
    with torch.enable_grad():
        for _ in range(epochs):
            order = torch.randperm(len(train), generator=generator)
            for pick in order.split(BATCH):
                optimizer.zero_grad()
                for part in pick.split(at_once):
                    loss = _loss(model, reference, train.picked(part).prepared(device))
                    (loss * (len(part) / len(pick))).backward()
                optimizer.step()
                schedule.step()
                done += 1
                report(done / steps)
    model.zero_grad()
    if _loss_on(model, reference, checked) < start:
        return True
    model.load_state_dict(before)
    return False


def _groups(model: nn.Module, grid_rate: float, free_rate: float) -> list[dict[str, Any]]:
    """Each parameter with a rate in its own units."""
    scales = {}
    for _, module in compressible(model):
        grid = grid_of(module)
        if grid is not None:
            scales[stored_weight(module)] = grid_rate * float(grid.scale.mean())
    return [
        {"params": [p], "lr": scales.get(p, free_rate * float(p.detach().square().mean().sqrt()))}
        for p in model.parameters()
        if bool(p.detach().any())
    ]


def _loss(model: nn.Module, reference: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), _outputs(reference) as targets:
        target_logits = reference(images)
    with _outputs(model) as outputs:
        logits = model(images)
    pairs = [(outputs[name], targets[name]) for name in targets] + [(logits, target_logits)]
    losses = [(a - b).square().mean() / b.square().mean().clamp_min(1e-12) for a, b in pairs]
    return torch.stack(losses).sum()


@torch.no_grad()
def _loss_on(model: nn.Module, reference: nn.Module, batches: PreparedBatches) -> float:
    total = sum(float(_loss(model, reference, x)) * len(x) for x in batches)
    return total / len(batches.split)


@contextmanager
def _outputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """The blocks' outputs of a forward pass inside the context."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, _: nn.Module, __: object, output: Tensor) -> None:
        outputs[name] = output

    with hooked(blocks(model), post=keep):
        yield outputs
