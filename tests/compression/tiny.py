"""Small real networks with every kind of layer, and a context with a few real images."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from compression.data.datasets import FASHION_MNIST, INPUT_SHAPE, load_dataset
from compression.data.splits import Dataset
from compression.methods.calibration.batchnorm import estimate_batchnorm
from compression.methods.calibration.step_context import StepContext
from compression.methods.prune.channels import choose_channels, remove
from compression.models import parametrize
from compression.models.parametrize import (
    FakeQuantize,
    compressible,
)
from compression.models.target import Target

IMAGES = 96


def convolutional() -> nn.Module:
    """Plain, grouped, depthwise and 1x1 convolutions, with and without a bias, and a linear layer.

    The depthwise kernel meets 2x2 maps, so that some of its taps see much padding.
    """
    first = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
    last = nn.Linear(24, 10)
    # By OBS, what is given as good as twice scores little: the equal channels of a grey image,
    # means over a map. At the usual scale, these layers would lose all weights first.
    nn.init.normal_(first.weight, std=0.8)
    nn.init.normal_(last.weight, std=0.8)
    return nn.Sequential(
        nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU()),
        nn.MaxPool2d(4),
        nn.Sequential(nn.Conv2d(8, 16, 3, 1, 1, groups=2), nn.BatchNorm2d(16), nn.ReLU()),
        nn.MaxPool2d(2),
        nn.Sequential(
            nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        ),
        nn.Conv2d(16, 24, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        last,
    )


def transformer() -> nn.Module:
    """torchvision's vision transformer with blocks of `vit_b_16`'s kind."""
    model = VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        num_classes=10,
    )
    nn.init.normal_(model.heads.head.weight, std=0.3)  # torchvision starts with zeros
    nn.init.normal_(model.class_token, std=0.3)
    return model


NETS: dict[str, Callable[[], nn.Module]] = {
    "convolutional": convolutional,
    "transformer": transformer,
}


@cache
def small_data() -> Dataset:
    """Fashion-MNIST with few images in every split."""
    whole = load_dataset("fashion-mnist")
    return replace(
        whole,
        train=whole.train.head(IMAGES),
        calibration=whole.calibration.head(IMAGES),
        validation=whole.validation.head(500),
    )


def images() -> Tensor:
    """All calibration images, prepared."""
    return FASHION_MNIST(small_data().calibration.images)


@cache
def _original(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = NETS[name]()
    model.eval()
    estimate_batchnorm(model, [images()])
    return model


def net(name: str) -> nn.Module:
    """A copy of a small network, the same each time."""
    found: nn.Module = copy.deepcopy(_original(name))
    return found


def context(name: str, *, seed: int = 0, data: bool = True) -> StepContext:
    """What a step needs to work on `net(name)`."""
    return context_of(_original(name), f"tiny/{name}", seed=seed, data=data)


def context_of(
    original: nn.Module, name: str = "tiny", *, seed: int = 0, data: bool = True
) -> StepContext:
    """What a step needs to work on copies of `original`."""
    target = Target(original, INPUT_SHAPE, small_data() if data else None, name)
    return StepContext(target, original, original, seed, lambda _: None)


def mask_of(module: nn.Module) -> Tensor:
    """Which weights of a layer stay; all of them where there is no mask."""
    mask, weight = parametrize.mask_of(module), module.weight
    assert isinstance(weight, Tensor)
    return torch.ones_like(weight, dtype=torch.bool) if mask is None else mask


def masks(model: nn.Module) -> dict[str, Tensor]:
    """The masks of all layers."""
    return {name: mask_of(module) for name, module in compressible(model)}


def grid_held(module: nn.Module) -> FakeQuantize:
    """The grid of a layer that has one."""
    quantizer = parametrize.quantizer_of(module)
    assert quantizer is not None
    return quantizer


def remove_channels(model: nn.Module, **how: Any) -> str | None:
    """Choose channels and remove them, in place; what there is to say."""
    plan = choose_channels(model, **how)
    remove(model, plan)
    return plan.note
