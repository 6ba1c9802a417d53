"""Masked weights stay zero, quantized weights stay on their grid, and copies stay apart."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from compression.models.parametrize import (
    FakeQuantize,
    Mask,
    QuantizationGrid,
    compressible,
    grid_of,
    mask_of,
    materialize,
    parametrize_weight,
    quantizer_of,
    remove_parametrization,
    stored_weight,
    weight_of,
)


def _grid(
    weight: Tensor, bits: int = 4, affine: bool = False, per_channel: bool = True
) -> QuantizationGrid:
    shape = (weight.shape[0] if per_channel else 1,) + (1,) * (weight.ndim - 1)
    step = 0.02 + 0.02 * torch.rand(shape)
    if not affine:
        high = 2 ** (bits - 1) - 1
        return QuantizationGrid(step, torch.zeros(shape, dtype=torch.int16), -high, high)
    high = 2**bits - 1
    return QuantizationGrid(step, torch.randint(0, high + 1, shape, dtype=torch.int16), 0, high)


def _net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    return net.extend([nn.Linear(32, 5)])


def _held(seed: int = 0, affine: bool = False) -> nn.Sequential:
    net = _net(seed)
    for _, layer in compressible(net):
        weight = weight_of(layer)
        parametrize_weight(layer, torch.rand_like(weight) > 0.6, _grid(weight, affine=affine))
    return net


def _images() -> Tensor:
    return torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(3))


def _on_grid(layer: nn.Module, weight: Tensor) -> bool:
    grid = grid_of(layer)
    assert grid is not None
    return torch.equal(grid.decode(grid.encode(weight)), weight)


@pytest.mark.parametrize("affine", [False, True])
def test_training_keeps_zeros_and_grid(affine: bool) -> None:
    net = _held(affine=affine)
    masks = {n: mask_of(m).clone() for n, m in compressible(net)}  # type: ignore
    before = {n: weight_of(m).clone() for n, m in compressible(net)}
    optimizer = torch.optim.AdamW(net.parameters(), 0.05, weight_decay=0.1)
    for _ in range(8):
        for name, layer in compressible(net):
            trained = layer.weight  # as the forward pass sees it, with gradients on
            assert isinstance(trained, Tensor) and trained.requires_grad
            assert not trained[~masks[name]].any()
            assert _on_grid(layer, trained.detach())
        F.cross_entropy(net(_images()), torch.arange(6) % 5).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert any(not torch.equal(before[n], weight_of(m)) for n, m in compressible(net))


@settings(max_examples=40, deadline=None)
@given(
    bits=st.integers(2, 8), affine=st.booleans(), per_channel=st.booleans(), seed=st.integers(0, 99)
)
def test_every_code_comes_back(bits: int, affine: bool, per_channel: bool, seed: int) -> None:
    torch.manual_seed(seed)
    grid = _grid(torch.empty(6, 5), bits, affine, per_channel)
    codes = torch.randint(grid.low, grid.high + 1, (6, 5), dtype=torch.int16)
    weights = grid.decode(codes)
    assert torch.equal(grid.encode(weights), codes)
    wild = torch.randn(6, 5) * 10
    assert grid.encode(wild).min() >= grid.low and grid.encode(wild).max() <= grid.high
    zero = grid.decode(grid.encode(torch.zeros(6, 5)))
    assert torch.equal(zero.view(torch.int32), torch.zeros(6, 5, dtype=torch.int32))
    snapped = grid.snap(wild)  # bit for bit, the sign of zero included
    assert torch.equal(snapped.view(torch.int32), grid.decode(grid.encode(wild)).view(torch.int32))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 1, 3), (8, 8, 3)])
def test_a_held_weight_lies_in_memory_as_the_stored_one(
    shape: tuple[int, int, int], learned: bool
) -> None:
    """Else a convolution turns its images around, which doubles the time of a training step."""
    out, inputs, size = shape
    layer = nn.Conv2d(8, out, size, groups=8 // inputs).to(memory_format=torch.channels_last)
    weight = weight_of(layer)
    parametrize_weight(layer, torch.rand_like(weight) > 0.5, _grid(weight))
    layer.to(memory_format=torch.channels_last)
    quantizer = quantizer_of(layer)
    assert quantizer is not None
    if learned:
        quantizer.learn()
    assert layer.weight.requires_grad
    assert layer.weight.stride() == stored_weight(layer).stride() == weight.stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_passes_inside_the_range_only(dtype: torch.dtype) -> None:
    grid = QuantizationGrid(torch.full((1, 1), 0.25), torch.zeros(1, 1), -3, 3)
    values = [[-0.8, -0.75, -0.3, 0.0, 0.4, 0.75, 0.8]]
    weight = torch.tensor(values, dtype=dtype, requires_grad=True)
    out = FakeQuantize(grid)(weight)
    assert out.dtype == dtype
    assert out.tolist() == [[-0.75, -0.75, -0.25, 0.0, 0.5, 0.75, 0.75]]
    slopes = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7]], dtype=dtype)
    (out * slopes).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[0, 2, 3, 4, 5, 6, 0]]  # the ends of the range are inside


def test_no_gradient_passes_a_mask() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    Mask(torch.tensor([[True, False], [False, True]]))(weight).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("grid_first", [False, True])
def test_mask_and_grid_in_either_order_agree(grid_first: bool) -> None:
    layer = nn.Linear(20, 10)
    weight = weight_of(layer).clone()
    mask, grid = torch.rand(10, 20) > 0.5, _grid(weight)
    order: list[tuple[Tensor | None, QuantizationGrid | None]] = [(mask, None), (None, grid)]
    for step in reversed(order) if grid_first else order:
        parametrize_weight(layer, *step)
    assert torch.equal(weight_of(layer), grid.decode(grid.encode(torch.where(mask, weight, 0.0))))
    assert [type(p) for p in layer.parametrizations["weight"]] == [Mask, FakeQuantize]  # type: ignore


def test_holding_again_adds_zeros_and_replaces_the_grid() -> None:
    layer = nn.Linear(20, 10)
    first, second = torch.rand(10, 20) > 0.3, torch.rand(10, 20) > 0.3
    coarse, fine = _grid(weight_of(layer), 3), _grid(weight_of(layer), 8)
    parametrize_weight(layer, first, coarse)
    parametrize_weight(layer, second, None)
    assert not weight_of(layer)[~(first & second)].any() and _on_grid(layer, weight_of(layer))
    parametrize_weight(layer, None, fine)
    grid = grid_of(layer)
    assert grid is not None and grid.high == 127
    assert not weight_of(layer)[~(first & second)].any() and _on_grid(layer, weight_of(layer))
    assert len(layer.parametrizations["weight"]) == 2  # type: ignore


@pytest.mark.parametrize("training", [False, True])
def test_plain_predicts_the_same_and_leaves_the_original_alone(training: bool) -> None:
    net = _held().train(training)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    twin = materialize(net)
    assert not any(parametrize.is_parametrized(m) for m in twin.modules())
    assert torch.equal(net.eval()(_images()), twin.eval()(_images()))
    assert before.keys() == net.state_dict().keys()
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.fill_(7.0)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    net.train()
    F.cross_entropy(net(_images()), torch.arange(6) % 5).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_plain_has_the_state_dict_of_a_fresh_model() -> None:
    assert list(materialize(_held()).state_dict()) == list(_net().state_dict())
    assert type(next(layer for _, layer in compressible(materialize(_held())))) is nn.Conv2d


def test_changing_a_copy_leaves_the_original_held() -> None:
    net = _held()
    out = net.eval()(_images())
    again = copy.deepcopy(net)
    for _, layer in compressible(again):
        parametrize_weight(layer, torch.zeros_like(weight_of(layer), dtype=torch.bool), None)
    remove_parametrization(again[0])
    assert torch.equal(net(_images()), out)
    assert not weight_of(again[0]).any() and not weight_of(again[4]).any()
    assert mask_of(net[0]) is not None and mask_of(again[0]) is None


def test_deepcopy_and_state_dict_carry_everything() -> None:
    net = _held(1).eval()
    assert torch.equal(copy.deepcopy(net)(_images()), net(_images()))
    other = _held(2).eval()
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(_images()), net(_images()))


@pytest.mark.parametrize("scale", [0.0, -0.1, float("nan"), float("inf")])
def test_a_scale_that_is_no_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        FakeQuantize(QuantizationGrid(torch.tensor([[0.1, scale]]), torch.zeros(1, 2), -7, 7))


def test_a_grid_without_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="zero_point"):
        FakeQuantize(QuantizationGrid(torch.ones(1, 1), torch.full((1, 1), 16), 0, 15))
