"""Block reconstruction: nearer on images it was not tuned on or nothing; zeros and grids stay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision import models as tv

from compression.catalogue.cards import cards
from compression.data.splits import PreparedBatches, Split
from compression.methods.prune.masks import smallest_per_layer
from compression.methods.quantize import block_reconstruction as module_of_reconstruct
from compression.methods.quantize.block_reconstruction import blocks, reconstruct
from compression.methods.quantize.weight_ranges import mse
from compression.models.load import build
from compression.models.parametrize import (
    compressible,
    parametrize_weight,
    stored_weight,
    weight_of,
)
from tests.compression.tiny import NETS, grid_held, images, masks, net

every_net = pytest.mark.parametrize("name", NETS)
BUNDLED = sorted({c.architecture for c in cards().values() if c.bundled})


def crushed(name: str, bits: int = 3) -> nn.Module:
    """Half of the weights masked, the others on a coarse grid."""
    model = net(name)
    keep = smallest_per_layer({n: weight_of(m).abs() for n, m in compressible(model)}, 0.5)
    for n, module in compressible(model):
        parametrize_weight(module, keep[n], mse(weight_of(module) * keep[n], bits, True, True))
    return model


def held_out_loss(model: nn.Module, reference: nn.Module) -> float:
    held_out = calibration().picked(torch.arange(0, len(images()), 5))
    return module_of_reconstruct._loss_on(model, reference, PreparedBatches(held_out, 256))


def calibration() -> Split:
    """Prepared images, of which nobody asks the labels."""
    return Split("calibration", images(), torch.zeros(len(images())))


@every_net
def test_it_comes_nearer_and_zeros_and_grids_stay(name: str) -> None:
    model, reference = crushed(name), net(name)
    before, masked = held_out_loss(model, reference), masks(model)
    grids = {n: grid_held(m).grid for n, m in compressible(model)}
    old = {n: weight_of(m).clone() for n, m in compressible(model)}
    told: list[float] = []
    assert reconstruct(model, reference, calibration(), seed=0, report=told.append)
    assert held_out_loss(model, reference) < before
    assert any(not torch.equal(old[n], weight_of(m)) for n, m in compressible(model))
    for layer, module in compressible(model):
        weight, grid = weight_of(module), grid_held(module).grid
        assert bool((weight[~masked[layer]] == 0).all())
        assert torch.equal(masks(model)[layer], masked[layer])
        assert torch.equal(grid.scale, grids[layer].scale)
        assert torch.equal(grid.zero_point, grids[layer].zero_point)
        assert torch.equal(grid.decode(grid.encode(weight)), weight)
    assert told == sorted(told) and told[-1] == 1
    untouched = net(name).state_dict()
    assert all(torch.equal(v, untouched[k]) for k, v in reference.state_dict().items())
    assert all(p.grad is None for p in (*model.parameters(), *reference.parameters()))


@every_net
@pytest.mark.parametrize("rate", [1.0, 1e3])
def test_where_tuning_does_harm_the_model_stays_as_it_was(name: str, rate: float) -> None:
    model, reference = crushed(name, bits=8), net(name)
    state, before = copy.deepcopy(model.state_dict()), held_out_loss(model, reference)
    helped = reconstruct(
        model,
        reference,
        calibration(),
        seed=0,
        report=lambda _: None,
        epochs=1,
        grid_rate=rate,
        free_rate=rate,
    )
    assert held_out_loss(model, reference) <= before
    if not helped:
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    if rate > 1:
        assert not helped


@every_net
def test_same_seed_same_weights_another_seed_others(name: str) -> None:
    made = []
    for seed in (0, 0, 1):
        model = crushed(name)
        reconstruct(model, net(name), calibration(), seed=seed, report=lambda _: None, epochs=2)
        made.append(
            torch.cat([stored_weight(m).detach().flatten() for _, m in compressible(model)])
        )
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_parts_that_memory_has_room_for_make_the_same_steps() -> None:
    """Gradients of parts add up to those of their batch, but for the power they are relative to."""
    made = []
    for at_once in (64, 16):
        model = crushed("convolutional")
        reconstruct(
            model,
            net("convolutional"),
            calibration(),
            at_once=at_once,
            seed=0,
            report=lambda _: None,
            epochs=2,
        )
        made.append(held_out_loss(model, net("convolutional")))
    assert made[1] == pytest.approx(made[0], rel=0.1)


def test_what_is_not_held_by_anything_is_tuned_too() -> None:
    model, reference = net("convolutional"), net("convolutional")
    with torch.no_grad():
        for _, module in compressible(model):
            module.weight.mul_(1 + 0.3 * torch.rand_like(module.weight))  # type: ignore[operator, arg-type]
    before = held_out_loss(model, reference)
    assert reconstruct(model, reference, calibration(), seed=0, report=lambda _: None)
    assert held_out_loss(model, reference) < before


@pytest.mark.parametrize(
    "architecture", [*BUNDLED, "vit_b_16", "swin_t", "densenet121", "googlenet", "convnext_tiny"]
)
def test_every_weight_is_in_exactly_one_of_several_blocks(architecture: str) -> None:
    with torch.device("meta"):
        model = build(architecture, 10)
    found = blocks(model)
    layers = [id(m) for _, m in compressible(model)]
    inside = [id(m) for block in found.values() for _, m in compressible(block)]
    assert sorted(inside) == sorted(layers)
    assert len(found) >= 3
    assert all(model.get_submodule(name) is block for name, block in found.items())
    assert not any(type(block) is nn.Sequential for block in found.values())


def test_residual_blocks_are_blocks() -> None:
    model = tv.resnet18(weights=None)
    found = blocks(model)
    assert set(found) == {"conv1", "fc", *(f"layer{i}.{j}" for i in range(1, 5) for j in range(2))}
