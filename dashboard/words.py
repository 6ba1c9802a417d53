"""The choices of settings in plain words."""

from __future__ import annotations

CHOICES = {
    "none": "Off",
    "global": "The whole network",
    "layer": "Each layer by itself",
    "allocated": "Each layer by its sensitivity",
    "magnitude": "Magnitude, |w|",
    "activation": "With its input, |w x|",
    "taylor": "With its gradient, |w g|",
    "fisher": "Fisher, (w g)²",
    "obs": "Loss after adjusting (OBS)",
    "random": "Random, as a control",
    "unstructured": "Single weights",
    "2:4": "2 of every 4 in a row",
    "4:8": "4 of every 8 in a row",
    "channels": "Whole channels",
    "symmetric": "Symmetric about zero",
    "affine": "Shifted to fit (affine)",
    "channel": "Output channel",
    "tensor": "Layer",
    "mse": "Least squared error",
    "minmax": "Smallest to largest weight",
    "percentile": "Without the outermost 0.1 %",
    "kl": "Least divergence (KL)",
    "nearest": "To the nearest value",
    "gptq": "Making up for errors (GPTQ)",
    "reconstruct": "As GPTQ, then tuned block by block",
    "direct": "Trying it",
    "cross-layer": "Between neighbouring layers",
    "batchnorm": "Batch normalisation",
    "bias": "Biases",
    "auto": "Automatic: GPU if there is one",
    "cpu": "Processor (CPU)",
    "cuda": "NVIDIA GPU (CUDA)",
    # where the same value means something else
    "score batchnorm": "Batch-norm scale",
    "update obs": "The others adjust (OBS)",
    "sensitivity fisher": "Gradients (Fisher)",
    "activation_clipping minmax": "Smallest to largest value",
    "activation_granularity channel": "Channel, where depthwise",
    "activation_granularity tensor": "Layer",
}


def word(name: str, value: str) -> str:
    """A choice of the setting `name` as a person reads it."""
    return CHOICES.get(f"{name} {value}") or CHOICES.get(value, value)
