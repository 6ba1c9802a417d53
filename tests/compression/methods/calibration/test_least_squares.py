"""Weights that stay make up for those that go, and never for the worse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compression.methods.calibration.least_squares import refit
from compression.methods.calibration.second_moments import (
    measure_moments,
    output_error,
)
from tests.compression.layer_cases import INPUTS, LAYERS, case, distance


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", INPUTS)
@settings(max_examples=12)
@given(seed=st.integers(0, 999), apart=st.sampled_from([0.0, 0.1, 1.0]))
def test_output_error_never_grows_whatever_mask_and_inputs(
    layer: str, kind: str, seed: int, apart: float
) -> None:
    weight, mask, target, moments, power = case(layer, kind, seed, apart)
    found = refit(weight, mask, target, moments)
    assert bool(torch.isfinite(found).all()) and bool((found[~mask] == 0).all())
    before = distance(target, weight * mask, moments, power)
    after = distance(target, found, moments, power)
    # float32 knows the products of the moments to about 1e-6 of the largest
    noise = 1e-5 * (
        (target[..., moments.seen].abs() @ power.abs()) * target.abs()[..., moments.seen]
    )
    assert bool((after <= before * (1 + 1e-4) + noise.sum(2)).all())


@pytest.mark.parametrize("layer", ["linear", "plain", "grouped"])
def test_correlated_inputs_are_made_up_for(layer: str) -> None:
    for seed in range(5):
        weight, _, target, moments, power = case(layer, "full", seed, 0.1)
        mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
        found = refit(weight, mask, target, moments)
        before = distance(target, weight * mask, moments, power).sum()
        assert float(distance(target, found, moments, power).sum()) < 0.7 * float(before)


@settings(max_examples=20)
@given(st.integers(0, 999))
def test_it_is_the_least_squares_solution_on_each_rows_mask(seed: int) -> None:
    weight, mask, target, moments, _ = case("linear", "full", seed, 0.1)
    found = refit(weight, mask, target, moments)[0].double()
    gram = moments.gram[0].double()
    damping = 0.01 * gram.diagonal().mean()
    wanted = target[0].double() @ moments.cross[0].double()
    for row, kept in enumerate(mask[0]):
        if not kept.any():
            continue
        a = gram[kept][:, kept] + damping * torch.eye(int(kept.sum()))
        b = wanted[row, kept] + damping * weight[0, row, kept].double()
        exact = torch.linalg.solve(a, b)
        assert torch.allclose(found[row, kept], exact, rtol=1e-2, atol=1e-2 * float(exact.norm()))


def test_a_whole_mask_and_the_same_inputs_leave_the_references_weights() -> None:
    _, mask, target, moments, _ = case("plain", "full", 0, 0.0)
    found = refit(target, torch.ones_like(mask), target, moments)
    assert torch.allclose(found, target, atol=1e-5)


def test_a_lost_input_that_another_repeats_costs_nothing() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    x[:, 2] = x[:, 0]
    layer = nn.Linear(3, 1)
    moments = measure_moments(layer, [x])
    weight = torch.tensor([[[1.0, 2.0, 3.0]]])
    mask = torch.tensor([[[True, True, False]]])
    found = refit(weight, mask, weight, moments)
    # but for the pull towards the weights there were
    assert torch.allclose(found, torch.tensor([[[4.0, 2.0, 0.0]]]), atol=0.05)
    error = output_error(found - weight, moments.gram)
    assert float(error) < 0.002 * float(output_error(weight * mask - weight, moments.gram))
