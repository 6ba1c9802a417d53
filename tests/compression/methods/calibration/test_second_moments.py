"""Moments say what a change of the weights does to the output, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compression.methods.calibration import second_moments as module_of_moments
from compression.methods.calibration.second_moments import (
    damped,
    groups_of,
    im2col,
    measurable,
    measure_moments,
    output_error,
    weight_rows,
)

Make = Callable[[], nn.Linear | nn.Conv2d]
CONVOLUTIONS: dict[str, Make] = {
    "plain": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "uneven": lambda: nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(0, 1)),
    "dilated": lambda: nn.Conv2d(4, 6, 3, dilation=2),
    "grouped": lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4),
    "pointwise": lambda: nn.Conv2d(4, 6, 1),
    "pointwise strided": lambda: nn.Conv2d(4, 6, 1, stride=2),
    "pointwise grouped": lambda: nn.Conv2d(4, 6, 1, groups=2),
    "pointwise padded": lambda: nn.Conv2d(4, 6, 1, padding=1),
    "same": lambda: nn.Conv2d(4, 6, 3, padding="same"),
    "same, even": lambda: nn.Conv2d(4, 6, 2, padding="same"),
    "reflect": lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "circular": lambda: nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="circular"),
}
LAYERS: dict[str, Make] = {
    **CONVOLUTIONS,
    "linear": lambda: nn.Linear(7, 5),
    "linear on tokens": lambda: nn.Linear(7, 5),
}


def inputs_of(name: str, seed: int = 0, n: int = 5) -> Tensor:
    shape = {"linear": (n, 7), "linear on tokens": (n, 3, 7)}.get(name, (n, 4, 6, 7))
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def output_rows(layer: nn.Linear | nn.Conv2d, outputs: Tensor) -> Tensor:
    """Outputs as [groups, outputs per group, positions]."""
    axis = outputs.ndim - 1 if isinstance(layer, nn.Linear) else 1
    flat = outputs.movedim(axis, 0).flatten(1)
    return flat.reshape(groups_of(layer), -1, flat.shape[1])


@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_patches_are_the_layers_output(name: str) -> None:
    layer, x = LAYERS[name](), inputs_of(name)
    layer.register_parameter("bias", None)
    weight = weight_rows(layer.weight.detach(), groups_of(layer))
    found = weight @ im2col(layer, x)
    assert torch.allclose(found, output_rows(layer, layer(x)), atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=5)
@given(st.integers(0, 999))
def test_output_error_is_what_really_happens_to_the_output(name: str, seed: int) -> None:
    layer, x = LAYERS[name](), inputs_of(name, seed)
    before = layer(x)
    change = 0.1 * torch.randn(layer.weight.shape)
    with torch.no_grad():
        layer.weight.add_(change)
    really = output_rows(layer, (layer(x) - before).detach()).square().mean(2)
    moments = measure_moments(layer, [x])
    said = output_error(weight_rows(change, groups_of(layer))[..., moments.seen], moments.gram)
    assert torch.allclose(said, really, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_moments_are_means_over_positions_however_they_are_summed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x, r = LAYERS[name](), inputs_of(name, 1), inputs_of(name, 2)
    whole = measure_moments(layer, [x], [r])
    px, pr = (im2col(layer, v)[:, whole.seen].double() for v in (x, r))
    gram, cross = (a @ px.transpose(1, 2) / px.shape[2] for a in (px, pr))
    assert torch.allclose(whole.gram.double(), gram, atol=1e-5)
    assert torch.allclose(whole.cross.double(), cross, atol=1e-5)
    monkeypatch.setattr(module_of_moments, "CHUNK_BYTES", 1)
    parts = measure_moments(layer, [x], [r])
    assert torch.allclose(parts.gram, whole.gram, atol=1e-5)
    assert torch.allclose(parts.cross, whole.cross, atol=1e-5)
    alone = measure_moments(layer, [x])
    assert torch.equal(alone.gram, alone.cross)


def test_taps_that_only_meet_padding_are_not_seen() -> None:
    layer = nn.Conv2d(2, 4, 3, padding=1)
    found = measure_moments(layer, [torch.randn(9, 2, 1, 1)]).seen.view(2, 3, 3)
    centre = torch.zeros(3, 3, dtype=torch.bool)
    centre[1, 1] = True
    assert torch.equal(found, centre.expand(2, 3, 3))
    assert bool(measure_moments(layer, [torch.zeros(9, 2, 3, 3)]).seen.all())  # zero, not padding


def test_no_more_positions_than_are_good_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_of_moments, "LEAST_POSITIONS", 84)
    monkeypatch.setattr(module_of_moments, "POSITIONS_PER_INPUT", 1)
    monkeypatch.setattr(module_of_moments, "LEAST_IMAGES", 2)
    layer, x = nn.Conv2d(4, 6, 1), inputs_of("plain", n=10)
    assert torch.allclose(measure_moments(layer, [x]).gram, measure_moments(layer, [x[:2]]).gram)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("every", [2, 3])
def test_a_grid_of_positions_sees_what_those_positions_see(name: str, every: int) -> None:
    """Over all its shifts the grid holds each position once."""
    layer, x = LAYERS[name](), inputs_of(name)
    whole = im2col(layer, x)
    flat = isinstance(layer, nn.Linear)
    parts = [im2col(layer, x, every, shift) for shift in range(every if flat else every**2)]
    if all(part.shape[2] for part in parts) and sum(p.shape[2] for p in parts) == whole.shape[2]:
        everything = torch.cat(parts, 2)
        assert torch.allclose(
            everything.double() @ everything.double().transpose(1, 2),
            whole.double() @ whole.double().transpose(1, 2),
            rtol=1e-4,
            atol=1e-4,
        )
    columns = {tuple(c) for c in whole[0].T.tolist()}
    assert all(tuple(c) in columns for part in parts for c in part[0].T.tolist())


def test_of_large_images_fewer_positions_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the noise of that many positions the moments are those of all."""
    monkeypatch.setattr(module_of_moments, "LEAST_POSITIONS", 4_000)
    layer = nn.Conv2d(3, 4, 3, padding=1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, 32, 32, generator=generator)
    counts: list[int] = []
    real = module_of_moments.im2col

    def counted(*given: Any) -> Tensor:
        columns = real(*given)
        counts.append(columns.shape[2])
        return columns

    monkeypatch.setattr(module_of_moments, "im2col", counted)
    few = measure_moments(layer, list(x.split(8)))
    assert 4_000 <= sum(counts[2:]) <= 9_000  # the first two see one image
    monkeypatch.setattr(module_of_moments, "LEAST_POSITIONS", 10**9)
    whole = measure_moments(layer, [x])
    assert float((few.gram - whole.gram).abs().max()) < 0.1
    assert float((few.gram - whole.gram).abs().max()) > 0


@pytest.mark.parametrize("power", [0.0, 1e-6, 1.0, 1e6])
def test_damping_makes_any_moments_positive_definite(power: float) -> None:
    x = power * torch.randn(3, 4, 1)
    x[1] = 0
    gram = x @ x.transpose(1, 2)
    found = damped(gram, 0.01)
    assert bool(torch.isfinite(torch.linalg.cholesky(found.double())).all())
    added = (found - gram).diagonal(dim1=1, dim2=2)
    assert torch.equal(
        found - torch.diag_embed(added), found - torch.diag_embed(added).tril().triu()
    )
    assert torch.allclose(added[0], added[0].mean().expand(4), rtol=1e-3)
    if power >= 1:
        expected = 0.01 * gram[0].diagonal().mean()
        assert torch.allclose(added[0], expected.expand(4), rtol=1e-2)


def test_other_layers_are_not_measured() -> None:
    assert measurable(nn.Linear(2, 2)) and measurable(nn.Conv2d(2, 2, 1))
    for other in (nn.Conv1d(2, 2, 1), nn.Conv3d(2, 2, 1)):
        assert not measurable(other)
        with pytest.raises(TypeError, match=f"no moments for a {type(other).__name__}"):
            im2col(other, torch.zeros(1, 2, 3))
