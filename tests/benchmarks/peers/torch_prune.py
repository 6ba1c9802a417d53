"""PyTorch's own `torch.nn.utils.prune`: magnitude, over all layers or in each.

As it comes, or with the statistics of batch norms estimated anew by PyTorch's `update_bn`.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import update_bn

from compression.models.parametrize import compressible
from tests.benchmarks.peers.cells import Job, Made, zeros


def run(job: Job) -> Made:
    """`global_unstructured` or `l1_unstructured` on all convolutions and linear layers."""
    scope, *after = job.variant.split(", ")
    if after and not any(isinstance(m, nn.BatchNorm2d) for m in job.model.modules()):
        raise ValueError("the model has no batch norm")
    layers = [module for _, module in compressible(job.model)]
    if scope == "global":
        prune.global_unstructured(
            [(layer, "weight") for layer in layers],
            pruning_method=prune.L1Unstructured,
            amount=job.cell.sparsity,
        )
    for layer in layers:
        if scope == "layer":
            prune.l1_unstructured(layer, "weight", amount=job.cell.sparsity)
        prune.remove(layer, "weight")
    if after:
        update_bn(job.batches, job.model)
    return Made(job.model, {"zeros": zeros(job.model)})
