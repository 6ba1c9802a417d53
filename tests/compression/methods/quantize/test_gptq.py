"""Rounding that knows its inputs is never worse than rounding to the nearest."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compression.methods.quantize.gptq import gptq
from compression.methods.quantize.weight_ranges import CLIPPINGS
from compression.models.parametrize import QuantizationGrid
from tests.compression.layer_cases import (
    INPUTS,
    LAYERS,
    case,
    distance,
)


def grid_of(weight: Tensor, bits: int, symmetric: bool, per_channel: bool) -> QuantizationGrid:
    """An ordinary grid of the rows [g, o, d], a scale for each or one for all."""
    flat = CLIPPINGS["mse"](weight.flatten(0, 1), bits, symmetric, per_channel)
    shape = (*weight.shape[:2], 1) if per_channel else (1, 1, 1)
    return QuantizationGrid(
        flat.scale.view(shape), flat.zero_point.view(shape), flat.low, flat.high
    )


def nearest(weight: Tensor, mask: Tensor, grid: QuantizationGrid) -> Tensor:
    return torch.where(mask, grid.decode(grid.encode(weight)), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", INPUTS)
@settings(max_examples=8)
@given(
    seed=st.integers(0, 999),
    apart=st.sampled_from([0.0, 0.1]),
    bits=st.sampled_from([2, 3, 4, 8]),
    symmetric=st.booleans(),
    per_channel=st.booleans(),
)
def test_on_the_grid_zero_where_masked_and_no_worse_than_the_nearest(
    layer: str, kind: str, seed: int, apart: float, bits: int, symmetric: bool, per_channel: bool
) -> None:
    weight, mask, target, moments, power = case(layer, kind, seed, apart)
    weight = weight * mask
    grid = grid_of(weight, bits, symmetric, per_channel)
    found = gptq(weight, target, mask, grid, moments)
    assert bool(torch.isfinite(found).all()) and bool((found[~mask] == 0).all())
    assert bool((found[..., ~moments.seen] == 0).all())
    assert torch.equal(grid.decode(grid.encode(found)), found)
    plain = distance(target, nearest(weight, mask, grid), moments, power)
    after = distance(target, found, moments, power)
    seen = moments.seen
    noise = 1e-5 * ((target[..., seen].abs() @ power.abs()) * target.abs()[..., seen]).sum(2)
    assert bool((after <= plain * (1 + 1e-4) + noise).all())


@pytest.mark.parametrize("layer", ["linear", "plain", "grouped", "depthwise"])
def test_it_is_clearly_better_at_few_bits(layer: str) -> None:
    total = [0.0, 0.0]
    for seed in range(6):
        _, mask, target, moments, power = case(layer, "full", seed, 0.0)
        whole, grid = torch.ones_like(mask), grid_of(target, 3, True, True)
        found = gptq(target, target, whole, grid, moments)
        for i, w in enumerate((found, nearest(target, whole, grid))):
            total[i] += float(distance(target, w, moments, power).sum())
    assert total[0] < (0.9 if layer == "depthwise" else 0.7) * total[1]


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["linear", "plain", "grouped", "depthwise"])
def test_the_layers_output_comes_nearer_with_every_bit(layer: str) -> None:
    errors = []
    for bits in range(2, 9):
        total = 0.0
        for seed in range(4):
            _, mask, target, moments, power = case(layer, "full", seed, 0.0)
            grid = grid_of(target, bits, True, True)
            found = gptq(target, target, torch.ones_like(mask), grid, moments)
            total += float(distance(target, found, moments, power).sum())
        errors.append(total)
    assert all(after < before for before, after in itertools.pairwise(errors))
    assert errors[-1] < errors[0] / 100


@settings(max_examples=15)
@given(st.integers(0, 999))
def test_no_single_move_to_a_neighbour_on_the_grid_would_help_much(seed: int) -> None:
    _, mask, target, moments, power = case("linear", "full", seed, 0.0)
    grid = grid_of(target, 3, True, True)
    found = gptq(target, target, torch.ones_like(mask), grid, moments)
    before = distance(target, found, moments, power)
    for j, step in itertools.product(range(found.shape[2]), (-1, 1)):
        codes = grid.encode(found)
        codes[..., j] = (codes[..., j] + step).clamp(grid.low, grid.high)
        moved = distance(target, grid.decode(codes), moments, power)
        # three sweeps are nearly always enough for what few weights there are
        assert float(moved.sum()) >= 0.9 * float(before.sum())


def test_what_is_on_the_grid_already_stays() -> None:
    _, mask, target, moments, _ = case("plain", "full", 0, 0.0)
    whole, grid = torch.ones_like(mask), grid_of(target, 4, True, True)
    once = nearest(target, whole, grid)
    assert torch.equal(gptq(once, once, whole, grid, moments), once)
