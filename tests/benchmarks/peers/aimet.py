"""AIMET: AdaRound (Nagel et al., 2020) on folded batch norms, then its quantization simulation.

AIMET's own default is 15,000 iterations a layer, over an hour on one core for most of the models;
here they are as many as the variant says.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters
from aimet_torch.batch_norm_fold import fold_all_batch_norms
from aimet_torch.bn_reestimation import reestimate_bn_stats
from aimet_torch.common.defs import QuantScheme
from aimet_torch.model_preparer import prepare_model
from aimet_torch.quantsim import QuantizationSimModel
from torch import Tensor, nn

from tests.benchmarks.peers.cells import Job, Made

_CONFIG = "default"  # per channel
_SCHEME = QuantScheme.post_training_tf_enhanced


def run(job: Job) -> Made:
    """AdaRound; with activation bits also the simulation calibrated on the same images."""
    norms, iterations = job.variant.split(", ")
    sample = job.batches[0][:2]
    model = prepare_model(job.model) if job.cell.activation_bits else job.model
    if norms == "folded":
        fold_all_batch_norms(model, tuple(sample.shape), dummy_input=sample)
    with tempfile.TemporaryDirectory() as folder:
        rounded = _adaround(job, model, sample, int(iterations.split()[0]), folder)
        sim = _simulation(job, rounded, sample, Path(folder) / "w.encodings")
    weights = _weights(sim)
    codes = {"codes": max(float(max(r.unique().numel() for r in w)) for w in weights.values())}
    if job.cell.activation_bits is not None:
        sim.compute_encodings(lambda m: [m(x) for x in job.batches])
        return Made(sim.model.eval(), codes)
    for name, weight in weights.items():
        rounded.get_submodule(name).weight = nn.Parameter(weight)
    if norms == "adapted":
        reestimate_bn_stats(rounded, job.batches, len(job.batches), _forward)
    return Made(rounded, codes)


def _adaround(job: Job, model: nn.Module, sample: Tensor, iterations: int, folder: str) -> Any:
    parameters = AdaroundParameters(
        job.batches, len(job.batches), default_num_iterations=iterations, forward_fn=_forward
    )
    with torch.enable_grad():
        return Adaround.apply_adaround(
            model,
            sample,
            parameters,
            path=folder,
            filename_prefix="w",
            default_param_bw=job.cell.weight_bits or 8,
            default_quant_scheme=_SCHEME,
            default_config_file=_CONFIG,
        ).eval()


def _simulation(job: Job, model: nn.Module, sample: Tensor, encodings: Path) -> Any:
    """With the grids that AdaRound was for: what it gives back is not yet on them."""
    sim = QuantizationSimModel(
        model,
        sample,
        quant_scheme=_SCHEME,
        default_param_bw=job.cell.weight_bits or 8,
        default_output_bw=job.cell.activation_bits or 8,
        config_file=_CONFIG,
    )
    sim.set_and_freeze_param_encodings(str(encodings))
    return sim


def _weights(sim: Any) -> dict[str, Tensor]:
    """The quantized weights of convolutions and linear layers, by name."""
    layers = ((n, m) for n, m in sim.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear))
    return {
        name: m.param_quantizers["weight"](m.weight).detach().dequantize() for name, m in layers
    }


def _forward(model: nn.Module, batch: Tensor) -> Any:
    with torch.no_grad():
        return model(batch)
