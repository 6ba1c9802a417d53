"""torch-pruning: whole channels removed, until the MACs are what the cell asks.

As it comes, or with the statistics of batch norms estimated anew by PyTorch's `update_bn`; "in
steps" also estimates them, and the gradients of the Taylor score, before every fifth step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from compression.models.load import count_macs
from tests.benchmarks.peers.cells import INPUT_SHAPE, Job, Made

_SCORES = {
    "magnitude": tp.importance.GroupMagnitudeImportance,
    "LAMP": tp.importance.LAMPImportance,
    "Taylor": tp.importance.GroupTaylorImportance,
}
_STEPS = 100
_EVERY = 5
_GRADIENT_BATCHES = 4


def run(job: Job) -> Made:
    """Small steps of its pruner until at most the cell's share of the MACs is left."""
    name, *after = job.variant.split(", ")
    scope, score, *pace = name.split(" ")
    model, base, spread = job.model, count_macs(job.model, INPUT_SHAPE), scope == "global"
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
    if score == "Taylor" and not pace:
        _gradients(job, range(_GRADIENT_BATCHES))  # the pruner shrinks them along with the weights
    for step in range(_STEPS):
        if pace and step % _EVERY == 0:
            update_bn(job.batches, model)
            _gradients(job, range(len(job.batches)))
        pruner.step()
        if count_macs(model, INPUT_SHAPE) <= (job.cell.macs or 1) * base:
            break
    model.zero_grad(set_to_none=True)
    if after:
        update_bn(job.batches, model)
    return Made(model, {"macs": count_macs(model, INPUT_SHAPE) / base})


def _classifier(model: nn.Module) -> nn.Module:
    """The last convolution or linear layer, whose outputs are the classes."""
    return [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)][-1]


def _gradients(job: Job, batches: Sequence[int]) -> None:
    job.model.zero_grad()
    with torch.enable_grad():
        for i in batches:
            F.cross_entropy(job.model(job.batches[i]), job.labels[i]).backward()
