"""torch-pruning: whole channels removed, as it comes, until the MACs are what the cell asks."""

from __future__ import annotations

import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional as F

from compression.models.load import count_macs
from tests.benchmarks.peers.cells import INPUT_SHAPE, Job, Made

_SCORES = {
    "magnitude": tp.importance.GroupMagnitudeImportance,
    "LAMP": tp.importance.LAMPImportance,
    "Taylor": tp.importance.GroupTaylorImportance,
}
_STEPS = 100


def run(job: Job) -> Made:
    """Small steps of its pruner until at most the cell's share of the MACs is left."""
    model, (scope, score) = job.model, job.variant.split(" ", 1)
    base, spread = count_macs(model, INPUT_SHAPE), scope == "global"
    pruner = tp.pruner.BasePruner(
        model,
        job.batches[0][:2],
        importance=_SCORES[score](),
        global_pruning=spread,
        pruning_ratio=1.0 if spread else 0.9,
        max_pruning_ratio=0.95 if spread else 1.0,
        iterative_steps=_STEPS,
        ignored_layers=[_classifier(model)],
    )
    if score == "Taylor":
        _gradients(job)  # the pruner shrinks gradients along with the weights
    for _ in range(_STEPS):
        pruner.step()
        if count_macs(model, INPUT_SHAPE) <= (job.cell.macs or 1) * base:
            break
    model.zero_grad(set_to_none=True)
    return Made(model, {"macs": count_macs(model, INPUT_SHAPE) / base})


def _classifier(model: nn.Module) -> nn.Module:
    """The last convolution or linear layer, whose outputs are the classes."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)][-1]


def _gradients(job: Job) -> None:
    job.model.zero_grad()
    with torch.enable_grad():
        for x, y in list(zip(job.batches, job.labels, strict=True))[:4]:
            F.cross_entropy(job.model(x), y).backward()
