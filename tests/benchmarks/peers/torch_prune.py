"""PyTorch's own `torch.nn.utils.prune`, as it comes: magnitude, over all layers or in each."""

from __future__ import annotations

from torch.nn.utils import prune

from compression.models.parametrize import compressible
from tests.benchmarks.peers.cells import Job, Made, zeros


def run(job: Job) -> Made:
    """`global_unstructured` or `l1_unstructured` on all convolutions and linear layers."""
    layers = [module for _, module in compressible(job.model)]
    if job.variant == "global":
        prune.global_unstructured(
            [(layer, "weight") for layer in layers],
            pruning_method=prune.L1Unstructured,
            amount=job.cell.sparsity,
        )
    for layer in layers:
        if job.variant == "layer":
            prune.l1_unstructured(layer, "weight", amount=job.cell.sparsity)
        prune.remove(layer, "weight")
    return Made(job.model, {"zeros": zeros(job.model)})
