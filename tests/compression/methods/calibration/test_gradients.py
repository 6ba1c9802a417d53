"""Gradients held against what autograd gives image by image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from compression.data.splits import Split
from compression.methods.calibration import gradients
from compression.methods.calibration.gradients import output_gradients, weight_gradients
from compression.models.parametrize import compressible, parametrize_weight, weight_of
from tests.compression.tiny import NETS, images, net, small_data

every_net = pytest.mark.parametrize("name", NETS)
N = 20


def batch() -> tuple[Tensor, Tensor]:
    return images()[:N], small_data().calibration.labels[:N]


@every_net
def test_taylor_and_fisher_are_means_over_small_batches(name: str) -> None:
    model, (x, y) = net(name), batch()
    found = weight_gradients(model, Split("calibration", x, y))
    sums: dict[str, list[Tensor]] = {n: [] for n, _ in compressible(model)}
    for start in range(0, N, 8):
        model.zero_grad()
        F.cross_entropy(model(x[start : start + 8]), y[start : start + 8]).backward()
        for n, module in compressible(model):
            assert isinstance(module.weight, Tensor) and module.weight.grad is not None
            sums[n].append(module.weight.grad.clone())
    for n, module in compressible(model):
        g = torch.stack(sums[n])
        assert torch.allclose(found[n].taylor, (weight_of(module) * g).abs().mean(0), atol=1e-6)
        assert torch.allclose(found[n].fisher, g.square().mean(0), atol=1e-6)
        assert float(found[n].fisher.sum()) > 0


@every_net
def test_the_model_is_left_as_it_was(name: str) -> None:
    model, (x, y) = net(name), batch()
    for _, module in compressible(model):
        parametrize_weight(module, weight_of(module) > 0, None)
    weight_gradients(model, Split("calibration", x, y))
    output_gradients(model, [x], 0)
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_a_masked_weight_has_no_taylor_score_but_can_have_a_gradient() -> None:
    model, (x, y) = net("convolutional"), batch()
    for _, module in compressible(model):
        parametrize_weight(module, weight_of(module) > 0, None)
    for n, module in ((n, m) for n, m in compressible(model)):
        found = weight_gradients(model, Split("calibration", x, y))[n]
        assert bool((found.taylor[weight_of(module) == 0] == 0).all())
        assert float(found.fisher[weight_of(module) == 0].sum()) > 0


@every_net
def test_output_gradients_are_those_of_every_image(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (x, _) = net(name), batch()
    whole = output_gradients(model, [x], 3)
    called = {n for n, _ in compressible(model) if not n.endswith("out_proj")}
    assert set(whole) == called
    # the labels that are drawn
    g = torch.Generator().manual_seed(3)
    labels = torch.multinomial(model(x).detach().softmax(1), 1, generator=g)[:, 0]
    kept: dict[str, Tensor] = {}

    def keep(n: str) -> object:
        return lambda _, __, out: kept.__setitem__(n, out)

    held = [m.register_forward_hook(keep(n)) for n, m in compressible(model)]  # type: ignore[arg-type]
    expected = dict.fromkeys(called, 0.0)
    for i in range(N):
        loss = F.cross_entropy(model(x[i : i + 1]), labels[i : i + 1])
        slopes = torch.autograd.grad(loss, [kept[n] for n in expected])
        for n, slope in zip(expected, slopes, strict=True):
            axis = 1 if slope.ndim == 4 else slope.ndim - 1
            power = slope.square().movedim(axis, 0).flatten(1).sum(1)
            expected[n] = expected[n] + power / N  # type: ignore[assignment]
    for hook in held:
        hook.remove()
    for n, values in expected.items():
        assert torch.allclose(whole[n], torch.as_tensor(values), rtol=1e-3, atol=1e-7), n


def test_labels_come_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, _) = net("convolutional"), batch()
    first, again, other = (output_gradients(model, [x], seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert any(not torch.equal(first[n], other[n]) for n in first)
    monkeypatch.setattr(gradients, "_OUTPUT_BATCH", 10**6)
    whole = output_gradients(model, [x], 0)
    assert all(torch.allclose(first[n], whole[n], rtol=1e-3) for n in first)
