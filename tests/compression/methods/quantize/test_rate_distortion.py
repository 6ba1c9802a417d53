"""Rounding that counts bits: on the grid, cheaper sweep by sweep, and better than GPTQ per bit."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compression.methods.calibration.second_moments import SecondMoments, damped
from compression.methods.quantize.gptq import gptq
from compression.methods.quantize.rate_distortion import (
    RateDistortionProblem,
    code_lengths,
    coordinate_descent,
    minimize_rate_distortion,
    rate_grid,
    solve,
)
from compression.models.parametrize import QuantizationGrid
from tests.compression.layer_cases import (
    INPUTS,
    LAYERS,
    case,
    distance,
)


def grid_of(weight: Tensor, steps: float) -> QuantizationGrid:
    """Codes from -7 to 7, so many steps to the largest weight of a row."""
    scale = weight.abs().amax(2, keepdim=True) / steps
    return QuantizationGrid(scale, torch.zeros_like(scale, dtype=torch.int16), -7, 7)


def problem_of(
    target: Tensor, mask: Tensor, moments: SecondMoments, grid: QuantizationGrid, price: float
) -> RateDistortionProblem:
    gram = damped(moments.gram, 0.01)
    prices = torch.full((*target.shape[:2], 1), price)
    seen = moments.seen
    return RateDistortionProblem(
        gram, target[..., seen] @ moments.cross, mask[..., seen], grid, prices
    )


def entropy(weight: Tensor, grid: QuantizationGrid) -> float:
    """Bits of the codes by their own frequencies."""
    counts = torch.bincount((grid.encode(weight).long() - grid.low).flatten()).double()
    share = counts[counts > 0] / counts.sum()
    return float(-(counts.sum() * (share * share.log2()).sum()))


def wide(seed: int) -> tuple[Tensor, SecondMoments]:
    """A linear layer of 24 rows whose 48 inputs depend on each other."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(400, 48, generator=g) @ torch.randn(48, 48, generator=g) / 7
    gram = (x.T @ x / len(x))[None]
    weight = torch.randn(1, 24, 48, generator=g) ** 3  # few large ones, as trained layers have
    return weight, SecondMoments(torch.ones(48, dtype=torch.bool), gram, gram)


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", INPUTS)
@settings(max_examples=5)
@given(seed=st.integers(0, 999), price=st.sampled_from([0.0, 1e-4, 1e-2, 1.0]))
def test_on_the_grid_and_zero_where_masked(layer: str, kind: str, seed: int, price: float) -> None:
    _, mask, target, moments, _ = case(layer, kind, seed, 0.1)
    grid = grid_of(target, 5)
    found = minimize_rate_distortion(
        target, mask, grid, moments, torch.full((*target.shape[:2], 1), price + 1e-9)
    )
    assert bool(torch.isfinite(found).all()) and bool((found[~mask] == 0).all())
    assert bool((found[..., ~moments.seen] == 0).all())
    assert torch.equal(grid.decode(grid.encode(found)), found)


@pytest.mark.slow
@settings(max_examples=20)
@given(seed=st.integers(0, 999), price=st.floats(0, 0.3))
def test_a_sweep_never_makes_it_dearer(seed: int, price: float) -> None:
    target, moments = wide(seed)
    problem = problem_of(
        target, torch.ones_like(target, dtype=torch.bool), moments, grid_of(target, 5), price + 1e-6
    )
    w = problem.grid.decode(problem.grid.encode(target))
    for _ in range(4):
        lengths = problem.lengths(w)
        after = coordinate_descent(problem, w, lengths)
        before, now = problem.cost(w, lengths), problem.cost(after, lengths)
        assert now <= before + 1e-4 * abs(before)
        w = after


@pytest.mark.slow
def test_the_dearer_a_bit_the_fewer_there_are() -> None:
    for seed in range(3):
        target, moments = wide(seed)
        grid, keep = grid_of(target, 5), torch.ones_like(target, dtype=torch.bool)
        bits, errors = [], []
        for price in (1e-4, 0.03, 0.3, 3.0, 30.0, 1e5):
            found = minimize_rate_distortion(
                target, keep, grid, moments, torch.full((1, 24, 1), price)
            )
            bits.append(entropy(found, grid))
            errors.append(float(distance(target, found, moments, moments.gram).sum()))
        assert all(after <= 1.03 * before for before, after in itertools.pairwise(bits))
        assert all(after >= 0.9 * before for before, after in itertools.pairwise(errors))
        assert bits[-1] < 0.01 * bits[0] and bits[-2] < 0.7 * bits[0]


@pytest.mark.slow
def test_less_error_than_gptq_at_no_more_bits() -> None:
    for seed in range(3):
        target, moments = wide(seed)
        keep = torch.ones_like(target, dtype=torch.bool)
        coarse, fine = grid_of(target, 1.5), grid_of(target, 3)
        plain = gptq(target, target, keep, coarse, moments)
        prices = [0.5 * 1.3**k for k in range(16)]
        made = [
            minimize_rate_distortion(target, keep, fine, moments, torch.full((1, 24, 1), p))
            for p in prices
        ]
        small = [w for w in made if entropy(w, fine) <= entropy(plain, coarse)]
        errors = [float(distance(target, w, moments, moments.gram).sum()) for w in small]
        assert min(errors) < 0.8 * float(distance(target, plain, moments, moments.gram).sum())


def test_compensation_beats_choosing_each_weight_alone() -> None:
    target, moments = wide(0)
    grid, keep = grid_of(target, 3), torch.ones_like(target, dtype=torch.bool)
    for price in (0.05, 0.2, 0.5):
        problem = problem_of(target, keep, moments, grid, price)
        lengths = problem.lengths(solve(problem))
        own = problem.gram.diagonal(dim1=1, dim2=2)[..., None]
        columns = [
            problem.best_code(target[..., j, None], own[:, j, None], keep[..., j, None], lengths)
            for j in range(48)
        ]
        alone = torch.cat(columns, 2)
        found = solve(problem)
        assert problem.cost(found, problem.lengths(found)) < problem.cost(
            alone, problem.lengths(alone)
        )


def test_the_same_each_time_and_free_of_price_as_good_as_gptq() -> None:
    target, moments = wide(1)
    grid, keep = grid_of(target, 3), torch.ones_like(target, dtype=torch.bool)
    first, again = (
        minimize_rate_distortion(target, keep, grid, moments, torch.full((1, 24, 1), 1e-9))
        for _ in range(2)
    )
    assert torch.equal(first, again)
    plain = gptq(target, target, keep, grid, moments)
    errors = [float(distance(target, w, moments, moments.gram).sum()) for w in (first, plain)]
    assert errors[0] < 1.1 * errors[1]


def test_lengths_are_those_of_the_frequencies() -> None:
    codes = torch.tensor([0] * 7 + [1] * 3 + [3] * 1)
    lengths = code_lengths(codes, 4)
    assert float((2.0**-lengths).sum()) == pytest.approx(1)
    assert lengths.tolist() == pytest.approx([-math.log2(p / 15) for p in (8, 4, 1, 2)])


@settings(max_examples=30)
@given(seed=st.integers(0, 999), price=st.floats(1e-8, 10), bits=st.integers(2, 8))
def test_a_grid_reaches_the_largest_weight_in_steps_of_few_sizes(
    seed: int, price: float, bits: int
) -> None:
    target, moments = wide(seed)
    grid = rate_grid(target, moments, torch.full((1, 24, 1), price), bits)
    assert grid.high == 2 ** (bits - 1) - 1 == -grid.low
    assert bool((grid.high * grid.scale >= target.abs().amax(2, keepdim=True) * 0.999).all())
    octaves = 2 * grid.scale.log2()
    assert torch.allclose(octaves, octaves.round(), atol=1e-3)
    dearer = rate_grid(target, moments, torch.full((1, 24, 1), 4 * price), bits)
    assert bool((dearer.scale >= grid.scale).all())


def test_layers_wider_than_a_block_are_the_same_as_in_one_block() -> None:
    target, moments = wide(2)
    grid, keep = grid_of(target, 3), torch.ones_like(target, dtype=torch.bool)
    price = torch.full((1, 24, 1), 0.1)
    whole = minimize_rate_distortion(target, keep, grid, moments, price)
    parts = minimize_rate_distortion(target, keep, grid, moments, price, block=7)
    # other sums, other last digits: hardly a code may differ
    assert float((whole != parts).double().mean()) < 0.1
