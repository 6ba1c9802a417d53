"""Laws of affine quantization, for every bit width, grid, granularity and range."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression.methods.quantize.weight_ranges import CLIPPINGS, mse

bits = st.integers(2, 8)
seeds = st.integers(0, 50)
symmetric = st.booleans()
per_channel = st.booleans()
clippings = st.sampled_from(sorted(CLIPPINGS))


def weights(seed: int) -> Tensor:
    """Heavy tails, one channel far smaller than the others, some exact zeros."""
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(6, 4, 3, 3, generator=g) ** 3
    w[0] *= 1e-3
    return torch.where(torch.rand(w.shape, generator=g) < 0.3, 0.0, w)


def squared_error(w: Tensor, q: Tensor) -> float:
    return float(((w - q).double() ** 2).sum())


@given(seeds, bits, symmetric, per_channel, clippings)
def test_zero_stays_exactly_zero(s: int, b: int, sym: bool, pc: bool, clipping: str) -> None:
    w = weights(s)
    grid = CLIPPINGS[clipping](w, b, sym, pc)
    assert bool((grid.decode(grid.encode(w))[w == 0] == 0).all())


@given(seeds, bits, symmetric, per_channel, clippings)
def test_error_inside_the_range_is_at_most_half_a_scale(
    s: int, b: int, sym: bool, pc: bool, clipping: str
) -> None:
    w = weights(s)
    grid = CLIPPINGS[clipping](w, b, sym, pc)
    least = (grid.low - grid.zero_point.float()) * grid.scale
    most = (grid.high - grid.zero_point.float()) * grid.scale
    inside = (w >= least) & (w <= most)
    error = (grid.decode(grid.encode(w)) - w).abs()
    allowed = (grid.scale * (0.5 + 1e-4)).expand_as(w)
    assert bool((error <= allowed)[inside].all())


@given(seeds, bits, symmetric, per_channel, clippings)
def test_codes_fit_the_bit_width(s: int, b: int, sym: bool, pc: bool, clipping: str) -> None:
    w = weights(s)
    grid = CLIPPINGS[clipping](w, b, sym, pc)
    codes = grid.encode(w)
    assert grid.high - grid.low + 1 == 2**b - sym
    assert grid.low <= int(codes.min()) and int(codes.max()) <= grid.high
    assert grid.scale.shape[0] == (6 if pc else 1)


@given(seeds, bits, symmetric, per_channel, clippings)
def test_rounding_what_is_on_the_grid_changes_nothing(
    s: int, b: int, sym: bool, pc: bool, clipping: str
) -> None:
    w = weights(s)
    grid = CLIPPINGS[clipping](w, b, sym, pc)
    once = grid.decode(grid.encode(w))
    assert torch.equal(grid.decode(grid.encode(once)), once)


@pytest.mark.slow
@given(seeds, bits, symmetric, per_channel)
def test_mse_clipping_is_never_worse_than_minmax(s: int, b: int, sym: bool, pc: bool) -> None:
    w = weights(s)
    full, clipped = (CLIPPINGS[c](w, b, sym, pc) for c in ("minmax", "mse"))
    assert squared_error(w, clipped.decode(clipped.encode(w))) <= squared_error(
        w, full.decode(full.encode(w))
    ) * (1 + 1e-6)


@given(st.integers(1, 6000), seeds, bits)
def test_percentile_leaves_out_a_thousandth_of_what_is_many(n: int, s: int, b: int) -> None:
    """Half of it at either end, rounded up; and the range is that of the weights that are left."""
    w = torch.randn(1, n, generator=torch.Generator().manual_seed(s))
    ranked = w.flatten().sort().values
    cut = math.ceil(n / 2000) if n >= 1000 else 0
    grid = CLIPPINGS["percentile"](w, b, True, True)
    left = ranked[cut : n - cut].abs().max()
    assert float(grid.scale * grid.high) == pytest.approx(float(left), rel=1e-5)
    outside = int((w.abs() > grid.scale * grid.high * (1 + 1e-6)).sum())
    assert outside <= 2 * cut <= max(2, n / 1000 + 2)


def test_percentile_is_not_ruled_by_one_weight_in_thousands() -> None:
    w = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    w[0, 0], w[1, 1] = 1000.0, -1000.0
    for pc in (True, False):
        grid = CLIPPINGS["percentile"](w, 4, False, pc)
        assert bool((grid.scale * (grid.high - grid.low) < 10).all())


@pytest.mark.slow
@given(seeds, symmetric)
def test_a_scale_per_channel_is_no_worse_than_one_for_all(s: int, sym: bool) -> None:
    w = weights(s)
    tensor, channel = (mse(w, 4, sym, pc) for pc in (False, True))
    assert squared_error(w, channel.decode(channel.encode(w))) <= squared_error(
        w, tensor.decode(tensor.encode(w))
    ) * (1 + 1e-3)


@pytest.mark.slow
@given(seeds, symmetric, per_channel)
def test_error_falls_with_every_bit(s: int, sym: bool, pc: bool) -> None:
    w = weights(s)
    errors = []
    for b in range(2, 9):
        grid = mse(w, b, sym, pc)
        errors.append(squared_error(w, grid.decode(grid.encode(w))))
    assert all(after <= before * 1.001 for before, after in itertools.pairwise(errors))
    assert errors[-1] < errors[0] / 100


@pytest.mark.parametrize("clipping", CLIPPINGS)
@pytest.mark.parametrize("value", [0.0, 1e-41, 1.0, -3.0])
def test_constant_weights_have_a_grid(clipping: str, value: float) -> None:
    w = torch.full((3, 4), value)
    for b, sym, pc in itertools.product((2, 8), (True, False), (True, False)):
        grid = CLIPPINGS[clipping](w, b, sym, pc)
        assert bool(torch.isfinite(grid.decode(grid.encode(w))).all())
        assert torch.allclose(grid.decode(grid.encode(w)), w, rtol=1e-5, atol=1e-38)
