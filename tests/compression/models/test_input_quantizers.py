"""Inputs of layers on grids: their ranges, their laws, and copies that predict the same."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from compression.errors import CompressionError, InvalidInput
from compression.methods.quantize.activation_ranges import ACTIVATION_CLIPPINGS
from compression.methods.quantize.observers import calibrate_inputs, uncalled
from compression.methods.quantize.weight_ranges import minmax
from compression.models.input_quantizers import (
    InputQuantizer,
    depthwise,
    input_grids,
    parametrize_inputs,
    remove_input_quantizers,
)
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    materialize,
    parametrize_weight,
    weight_of,
)

CLIPPINGS = list(ACTIVATION_CLIPPINGS)


def _net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 12, 1, groups=4),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 5),
    ).eval()


def _images(n: int = 24, seed: int = 3) -> Tensor:
    return torch.randn(n, 3, 10, 10, generator=torch.Generator().manual_seed(seed))


def _vit() -> nn.Module:
    torch.manual_seed(1)
    model = VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24
    )
    nn.init.normal_(model.heads[0].weight, std=0.1)  # torchvision starts it at zero
    return model.eval()


def _one(values: Tensor, bits: int, clipping: str, per_channel: bool = False) -> QuantizationGrid:
    """The grid for one layer that is given `values` [n, c, 1, 1]."""
    channels = values.shape[1]
    layer = nn.Sequential(nn.Conv2d(channels, channels, 1, groups=channels))
    granularity = "channel" if per_channel else "tensor"
    return calibrate_inputs(layer, values.split(500), bits, clipping, granularity)["0"]


def _error(values: Tensor, grid: QuantizationGrid) -> float:
    return float((InputQuantizer(grid)(values) - values).square().mean())


KINDS_OF_VALUES = {
    "normal": lambda g: torch.randn(2000, 4, 1, 1, generator=g),
    "after ReLU": lambda g: torch.randn(2000, 4, 1, 1, generator=g).relu(),
    "negative": lambda g: -torch.rand(2000, 4, 1, 1, generator=g),
    "heavy tails": lambda g: torch.randn(2000, 4, 1, 1, generator=g) ** 5,
    "channels apart": lambda g: (
        torch.rand(2000, 4, 1, 1, generator=g) * torch.tensor([0.01, 1, 9, -3]).view(1, 4, 1, 1)
    ),
}
values_of = st.builds(
    lambda kind, seed: KINDS_OF_VALUES[kind](torch.Generator().manual_seed(seed)),
    st.sampled_from(list(KINDS_OF_VALUES)),
    st.integers(0, 999),
)


@pytest.mark.slow
@settings(max_examples=40)
@given(values_of, st.sampled_from(CLIPPINGS), st.integers(4, 8), st.booleans())
def test_zero_is_on_the_grid_and_no_range_is_wider_than_minmax(
    values: Tensor, clipping: str, bits: int, per_channel: bool
) -> None:
    grid = _one(values, bits, clipping, per_channel)
    assert (grid.low, grid.high) == (0, 2**bits - 1)
    assert tuple(grid.scale.shape) == (1, 4 if per_channel else 1, 1, 1)
    zero = InputQuantizer(grid)(torch.zeros(1, 4, 1, 1))
    assert torch.equal(zero, torch.zeros(1, 4, 1, 1))
    assert bool((grid.scale <= _one(values, bits, "minmax", per_channel).scale * (1 + 1e-6)).all())


@pytest.mark.slow
@settings(max_examples=25)
@given(values_of, st.booleans())
def test_mse_falls_with_bits_and_is_at_most_that_of_any_other_range(
    values: Tensor, per_channel: bool
) -> None:
    errors = [_error(values, _one(values, b, "mse", per_channel)) for b in range(4, 9)]
    assert errors == sorted(errors, reverse=True)
    # it is chosen on bins of 1/512 of the range or less, hence the allowance
    for clipping in CLIPPINGS:
        assert errors[0] <= 1.02 * _error(values, _one(values, 4, clipping, per_channel))


@pytest.mark.slow
@settings(max_examples=25)
@given(values_of, st.integers(4, 6))
def test_a_scale_per_channel_is_no_worse(values: Tensor, bits: int) -> None:
    whole = _error(values, _one(values, bits, "mse"))
    assert _error(values, _one(values, bits, "mse", per_channel=True)) <= 1.02 * whole


@settings(max_examples=25)
@given(values_of, st.integers(4, 8))
def test_round_trip_is_at_most_half_a_scale_inside_the_range(values: Tensor, bits: int) -> None:
    grid = _one(values, bits, "minmax")
    error = (InputQuantizer(grid)(values) - values).abs().max()
    # the zero point is rounded too, which moves the ends by up to half a scale
    assert error <= grid.scale.max() * 1.001


def test_percentile_leaves_out_a_thousandth() -> None:
    values = torch.linspace(0, 1, 100_001)[1:].view(-1, 1, 1, 1)
    high = _one(values, 8, "percentile").scale.item() * 255
    assert high == pytest.approx(0.999, abs=1 / 2048)
    signed = torch.cat([values, -values])
    grid = _one(signed, 8, "percentile")
    assert grid.scale.item() * 255 == pytest.approx(2 * 0.999, abs=2 / 1024)


def test_entropy_cuts_off_an_outlier_and_keeps_a_uniform_range() -> None:
    values = torch.rand(20_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    assert _one(values, 8, "kl").scale.item() * 255 == pytest.approx(1, abs=0.02)
    values[7] = 50.0
    assert _one(values, 8, "minmax").scale.item() * 255 == pytest.approx(50)
    assert _one(values, 6, "kl").scale.item() * 63 < 10


@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_channels_that_are_always_zero_stay_zero(clipping: str) -> None:
    values = torch.rand(50, 4, 1, 1)
    values[:, 1] = 0
    for per_channel in (False, True):
        grid = _one(values, 5, clipping, per_channel)
        assert not InputQuantizer(grid)(values)[:, 1].any()


def test_every_called_layer_is_held_and_only_depthwise_ones_per_channel() -> None:
    net = _net()
    grids = calibrate_inputs(net, _images().split(10), 8, "kl", "channel")
    assert list(grids) == [name for name, _ in compressible(net)]
    assert [g.scale.numel() for g in grids.values()] == [1, 8, 1, 1]
    assert [depthwise(m) for _, m in compressible(net)] == [False, True, False, False]
    assert input_grids(net) == {}
    parametrize_inputs(net, grids)
    assert uncalled(net, input_grids(net)) is None


def test_what_layers_are_given_lies_on_the_grid() -> None:
    net, given = _net(), {}
    parametrize_inputs(net, calibrate_inputs(net, [_images()], 4, "mse"))
    for name, module in compressible(net):
        module.register_forward_pre_hook(lambda m, x, name=name: given.update({name: x[0]}))
    net(_images())
    for name, grid in input_grids(net).items():
        assert torch.equal(grid.decode(grid.encode(given[name])), given[name])
        assert len(given[name].unique()) <= 16


@pytest.mark.parametrize("bits", [4, 8])
def test_copies_predict_the_same_with_the_keys_of_the_architecture(bits: int) -> None:
    net, images = _net(), _images()
    keys = list(net.state_dict())
    float_out = net(images)
    parametrize_inputs(net, calibrate_inputs(net, [images], bits, "percentile", "channel"))
    for _, layer in compressible(net):
        parametrize_weight(
            layer, torch.rand_like(weight_of(layer)) > 0.3, minmax(weight_of(layer), 6, True, True)
        )
    with torch.no_grad():
        out = net(images)
    assert not torch.equal(out, float_out)
    for twin in (copy.deepcopy(net), materialize(net), copy.deepcopy(materialize(net))):
        with torch.inference_mode():
            assert torch.equal(twin(images), out)
        assert torch.equal(twin(images.requires_grad_()).detach(), out)
        assert input_grids(twin).keys() == input_grids(net).keys()
    twin = materialize(net)
    assert list(twin.state_dict()) == keys
    file = io.BytesIO()
    torch.save(twin, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(images).detach(), out)
    remove_input_quantizers(twin)
    assert torch.equal(net(images).detach(), out)
    assert input_grids(twin) == {} and not torch.equal(twin(images).detach(), out)


def test_weights_do_not_matter_to_what_is_seen_first_and_holding_again_replaces() -> None:
    net, images = _net(), [_images()]
    first = calibrate_inputs(net, images, 8, "minmax")
    coarse = calibrate_inputs(net, images, 4, "minmax")
    parametrize_inputs(net, coarse)
    again = calibrate_inputs(net, images, 8, "minmax")
    for name in first:
        assert torch.equal(first[name].scale, again[name].scale)
    assert {n: g.high for n, g in input_grids(net).items()} == dict.fromkeys(coarse, 15)
    parametrize_inputs(net, first)
    assert {g.high for g in input_grids(net).values()} == {255}
    assert all(len(m._forward_pre_hooks) == 1 for _, m in compressible(net))


def test_gradients_pass_inside_the_range_and_training_goes_on() -> None:
    quantizer = InputQuantizer(QuantizationGrid(torch.tensor([0.5]), torch.tensor([2]), 0, 15))
    x = torch.tensor([-1.1, -1.0, 0.3, 6.5, 6.6], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 0]
    net = _net().train()
    parametrize_inputs(net, calibrate_inputs(net, [_images()], 4, "mse"))
    assert net.training and net[1].training
    first = net[0].weight.clone()
    loss = net(_images()).square().mean()
    loss.backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    assert all(p.grad is not None for p in net.parameters())
    assert not torch.equal(first, net[0].weight)


def test_transformer_layers_are_held_but_for_the_attention_projections() -> None:
    model, images = _vit(), torch.randn(6, 3, 16, 16)
    grids = calibrate_inputs(model, [images], 8, "mse", "channel")
    expected = [n for n, _ in compressible(model) if not n.endswith("out_proj")]
    assert list(grids) == expected
    assert any(".mlp." in name for name in grids)
    note = uncalled(model, grids)
    assert note is not None
    assert "encoder.layers.encoder_layer_0.self_attention.out_proj" in note
    out = model(images)
    parametrize_inputs(model, grids)
    with torch.inference_mode():
        held, out = materialize(model)(images), out.detach()
    assert 0 < float((held - out).abs().max()) < 0.1


def test_more_bits_come_nearer_to_the_float_outputs() -> None:
    net, images = _net(), _images()
    out, errors = net(images), []
    for bits in (4, 6, 8):
        parametrize_inputs(net, calibrate_inputs(net, [images], bits, "mse"))
        errors.append((net(images) - out).square().mean().item())
        remove_input_quantizers(net)
    assert errors[0] > errors[1] > errors[2]
    assert torch.equal(net(images), out)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bits": 3}, "activation_bits"),
        ({"bits": 9}, "activation_bits"),
        ({"clipping": "best"}, "activation_clipping"),
        ({"granularity": "layer"}, "activation_granularity"),
        ({"batches": []}, "images"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], field: str) -> None:
    given = {"batches": [_images()], "bits": 8, "clipping": "mse", "granularity": "tensor"} | change
    with pytest.raises(InvalidInput, match=f"^{field}: got"):
        calibrate_inputs(_net(), **given)  # type: ignore[arg-type]


def test_an_input_that_is_not_finite_is_refused_and_leaves_the_model_alone() -> None:
    net = _net()
    parametrize_inputs(net, {"0": QuantizationGrid(torch.tensor([0.1]), torch.tensor([3]), 0, 15)})
    with torch.no_grad():
        net[3].weight.fill_(1e38)
    with pytest.raises(CompressionError, match="layer 4: its input"):
        calibrate_inputs(net, [_images()], 8, "mse")
    assert list(input_grids(net)) == ["0"]
    assert all(len(m._forward_pre_hooks) == (n == "0") for n, m in compressible(net))


@pytest.mark.slow
def test_a_model_with_inputs_on_grids_is_compiled_and_exported_whole() -> None:
    model, images = _net(), _images()
    parametrize_inputs(model, calibrate_inputs(model, [images], 8, "percentile"))
    with torch.inference_mode():
        expected = model(images)
        compiled = torch.compile(model, backend="eager", fullgraph=True)(images)
    with torch.no_grad():
        exported = torch.export.export(model, (images,)).module()(images)
    assert torch.equal(compiled, expected) and torch.equal(exported, expected)
