"""Equalization evens out ranges and changes nothing of what the model computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from compression.data.datasets import load_dataset
from compression.data.splits import batches
from compression.errors import CompressionError
from compression.methods.quantize.equalization import equalize
from compression.methods.quantize.observers import calibrate_inputs
from compression.methods.quantize.weight_ranges import minmax, mse
from compression.models.input_quantizers import parametrize_inputs
from compression.models.load import build, original_of
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    mask_of,
    parametrize_weight,
    weight_of,
)

BUNDLED = ("resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x0_5")


def _bundled(name: str) -> nn.Module:
    return copy.deepcopy(original_of(f"fashion-mnist/{name}"))


def _images() -> Tensor:
    return next(batches(load_dataset("fashion-mnist").calibration, 64))[0]


@torch.no_grad()
def _error(model: nn.Module, per_channel: bool) -> float:
    """Mean over the layers of the error of 8 bits relative to the weights."""
    weights = [weight_of(m) for _, m in compressible(model)]
    held = [(w, minmax(w, 8, True, per_channel)) for w in weights]
    errors = [(g.decode(g.encode(w)) - w).square().sum() / w.square().sum() for w, g in held]
    return float(torch.stack(errors).mean())


@pytest.mark.slow
@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("name", BUNDLED)
def test_outputs_stay(name: str, rows: bool) -> None:
    model = _bundled(name)
    noise = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        before = [model(x) for x in (_images(), noise)]
        assert equalize(model, rows) > (8 if rows else 1)
        after = [model(x) for x in (_images(), noise)]
    for old, new in zip(before, after, strict=True):
        assert float((old - new).abs().max()) < 1e-4 * float(old.abs().max())


def test_one_scale_for_all_weights_of_mobilenet_fits_better() -> None:
    model = _bundled("mobilenet_v2")
    before, by_channel = _error(model, False), _error(model, True)
    equalize(model)
    assert _error(model, False) < before / 3
    # what has a scale per filter is not made worse
    assert _error(model, True) < 1.5 * by_channel


def _uneven() -> nn.Sequential:
    """Channels that differ a thousandfold, without batch norm, as in the paper's figure 2."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.LeakyReLU(0.1),
        nn.MaxPool2d(2), nn.Conv2d(8, 12, 1, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 5),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for layer in (net[0], net[2]):
            factor = 10 ** torch.linspace(-1.5, 1.5, 8)[torch.randperm(8)]
            layer.weight.mul_(factor.view(8, 1, 1, 1))
            layer.bias.mul_(factor)
    return net


def test_ranges_of_a_pair_meet() -> None:
    """The paper's optimum: what makes a channel and what uses it have the same largest weight."""
    net, images = _uneven(), torch.randn(16, 3, 12, 12)
    out = net(images)
    assert equalize(net) == 2
    first, middle = (
        net[0].weight.detach().abs().amax((1, 2, 3)),
        net[2].weight.detach().abs().amax((1, 2, 3)),
    )
    last = torch.cat([w.abs().amax((0, 2, 3)) for w in net[5].weight.detach().chunk(2)])
    for made, used in ((first, middle), (middle, last)):
        ratio = made / used
        assert float(ratio.max() / ratio.min()) < 1.2
    assert torch.allclose(net(images), out, rtol=1e-3, atol=1e-4)


def test_four_bit_activations_and_weights_per_tensor_come_nearer() -> None:
    images, errors = torch.randn(64, 3, 12, 12), []
    for net in (_uneven(), _uneven()):
        out = net(images).detach()
        if errors:
            equalize(net)
        for _, layer in compressible(net):
            parametrize_weight(layer, None, mse(weight_of(layer), 4, True, False))
        parametrize_inputs(net, calibrate_inputs(net, [images], 4, "mse"))
        errors.append(float((net(images).detach() - out).square().mean()))
    assert errors[1] < errors[0] / 2


def test_masked_weights_stay_zero_and_held() -> None:
    model = _bundled("mobilenet_v2")
    masks = {n: torch.rand_like(weight_of(m)) > 0.5 for n, m in compressible(model)}
    for name, layer in compressible(model):
        parametrize_weight(layer, masks[name], None)
    with torch.inference_mode():
        out = model(_images())
        equalize(model)
        assert torch.allclose(model(_images()), out, atol=1e-4 * float(out.abs().max()))
    for name, layer in compressible(model):
        assert mask_of(layer) is not None
        assert not weight_of(layer)[~masks[name]].any()


def test_layers_on_a_grid_are_left_alone() -> None:
    net = _uneven()
    parametrize_weight(net[2], None, minmax(weight_of(net[2]), 8, True, True))
    state = {k: v.clone() for k, v in net.state_dict().items()}
    assert equalize(net) == 0
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    net = _uneven()
    parametrize_inputs(net, {"2": QuantizationGrid(torch.tensor([0.1]), torch.tensor([0]), 0, 255)})
    assert equalize(net) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "efficientnet_b0", "vit_b_16", "densenet121"]
)
def test_where_nothing_is_homogeneous_only_filters_change(name: str) -> None:
    if name == "vit_b_16":
        from torchvision.models.vision_transformer import VisionTransformer

        model: nn.Module = VisionTransformer(16, 8, 2, 2, 16, 24).eval()
        side = 16
    else:
        model, side = build(name, 10), 32
    images = torch.randn(4, 3, side, side)
    with torch.inference_mode():
        out = model(images)
        found = equalize(model)
        assert (found == 0) == (name == "vit_b_16")
        assert torch.allclose(model(images), out, atol=1e-4 * float(out.abs().max()) + 1e-6)


def test_a_model_that_cannot_be_traced_is_named() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CompressionError, match="Branching cannot be traced"):
        equalize(Branching())
