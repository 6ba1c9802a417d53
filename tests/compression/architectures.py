"""torchvision's families built small, by the classes that build the large ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.regnet import BlockParams, RegNet
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vgg import VGG, make_layers
from torchvision.models.vision_transformer import VisionTransformer

from compression.methods.calibration.batchnorm import estimate_batchnorm
from tests.compression.tiny import images


def _vgg() -> nn.Module:
    model = VGG(make_layers([8, "M", 16, "M"], batch_norm=True), 1, init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d((4, 4))
    model.classifier = nn.Sequential(
        nn.Linear(256, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 10)
    )
    return model


def _efficientnet() -> nn.Module:
    stages = [MBConvConfig(1, 3, 1, 16, 8, 1, 1.0, 1.0), MBConvConfig(4, 3, 2, 8, 16, 2, 1.0, 1.0)]
    return EfficientNet(stages, dropout=0.2, num_classes=10)


def _regnet() -> nn.Module:
    widths = BlockParams.from_init_params(
        depth=4, w_0=16, w_a=8.0, w_m=2.0, group_width=8, se_ratio=0.25
    )
    return RegNet(widths, num_classes=10)


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "vgg": _vgg,
    "densenet": lambda: DenseNet(8, (2, 2), 16, num_classes=10),
    "efficientnet": _efficientnet,
    "regnet": _regnet,
    "convnext": lambda: ConvNeXt(
        [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)], layer_scale=0.5, num_classes=10
    ),
    "vit": lambda: VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=10),
    "swin": lambda: SwinTransformer([4, 4], 16, [2], [2], [4, 4], num_classes=10),
}


def small(family: str) -> nn.Module:
    """A small model of a family: random, with the statistics of real images, and no zero layers."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = FAMILIES[family]().eval()
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and not weight.any():
                nn.init.normal_(weight, std=0.3)
            elif weight.ndim == 1 and "weight" in name and not weight.any():
                nn.init.normal_(weight, mean=1.0, std=0.3)
    estimate_batchnorm(model, [images()])
    return model
