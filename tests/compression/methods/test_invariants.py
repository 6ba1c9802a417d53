"""What holds for every score x pattern x rounding, on small networks of every kind of layer."""

from __future__ import annotations

import copy
import itertools
from functools import cache, partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from compression.methods.prune.scores import SCORES
from compression.methods.prune.step import prune
from compression.methods.quantize import step as quantize_step
from compression.methods.quantize.block_reconstruction import reconstruct
from compression.methods.quantize.step import quantize
from compression.methods.quantize.weight_ranges import CLIPPINGS
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    put_weight,
    weight_of,
)
from compression.recipe.steps import Prune, Quantize
from tests.compression.tiny import NETS, context, grid_held, mask_of, masks, net

SPARSITY = 0.5
SCOPES = get_args(Prune.model_fields["scope"].annotation)
PATTERNS = [p for p in get_args(Prune.model_fields["pattern"].annotation) if p != "channels"]
ROUNDINGS = get_args(Quantize.model_fields["rounding"].annotation)
SCHEMES = get_args(Quantize.model_fields["scheme"].annotation)
GRANULARITIES = get_args(Quantize.model_fields["granularity"].annotation)
HOW = [*SCOPES, *(p for p in PATTERNS if p != "unstructured")]

# Every score in every pattern on every network; roundings in turn, so that each meets each of them.
PAIRWISE = [
    (name, score, how, ROUNDINGS[(i + j + k) % len(ROUNDINGS)])
    for i, name in enumerate(NETS)
    for j, score in enumerate(SCORES)
    for k, how in enumerate(HOW)
]

every_net = pytest.mark.parametrize("name", NETS)
every_score = pytest.mark.parametrize("score", SCORES)
every_how = pytest.mark.parametrize("how", HOW)
every_rounding = pytest.mark.parametrize("rounding", ROUNDINGS)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Laws do not depend on how long it is tuned."""
    monkeypatch.setattr(quantize_step, "reconstruct", partial(reconstruct, epochs=2))


def step_of(score: str, how: str, **more: Any) -> Prune:
    if ":" in how:
        return Prune.model_validate({"score": score, "pattern": how, **more})
    return Prune.model_validate({"sparsity": SPARSITY, "score": score, "scope": how, **more})


@cache
def _pruned(name: str, score: str, how: str) -> tuple[nn.Module, tuple[str, ...]]:
    step = step_of(score, how, update="obs", repair=["batchnorm", "bias"])
    return prune(net(name), step, context(name))


def pruned(name: str, score: str, how: str) -> nn.Module:
    return copy.deepcopy(_pruned(name, score, how)[0])


def held_by_groups(mask: Tensor, kept: int, group: int) -> bool:
    """Whether exactly `kept` of every `group` input channels in a row stay, at every position."""
    runs = mask.unflatten(1, (-1, group)).sum(2)
    return bool((runs == kept).all())


@pytest.mark.slow
@every_net
@every_score
@every_how
def test_exactly_as_many_weights_go_as_asked_and_those_are_zero(
    name: str, score: str, how: str
) -> None:
    model, notes = _pruned(name, score, how)
    found = masks(model)
    if ":" in how:
        kept, group = map(int, how.split(":"))
        whole = [n for n, m in found.items() if m.shape[1] % group]
        for layer, mask in found.items():
            assert bool(mask.all()) if layer in whole else held_by_groups(mask, kept, group)
        assert any(f"{len(whole)} of {len(found)} layers stay whole" in n for n in notes) == bool(
            whole
        )
    elif how == "layer":
        for mask in found.values():
            assert int((~mask).sum()) == round(SPARSITY * mask.numel())
    else:
        masked = sum(int((~m).sum()) for m in found.values())
        assert masked == round(SPARSITY * sum(m.numel() for m in found.values()))
    for layer, module in compressible(model):
        weight = weight_of(module)
        assert bool((weight[~found[layer]] == 0).all()) and bool(torch.isfinite(weight).all())
        assert bool(found[layer].any())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "score", "how", "rounding"), PAIRWISE)
def test_what_is_pruned_stays_zero_and_all_else_lies_on_its_grid(
    name: str, score: str, how: str, rounding: str
) -> None:
    model = pruned(name, score, how)
    before = masks(model)
    step = Quantize.model_validate({"bits": 3, "rounding": rounding, "repair": ["batchnorm"]})
    quantized, _ = quantize(model, step, context(name))
    for layer, module in compressible(quantized):
        weight, grid = weight_of(module), grid_held(module).grid
        assert torch.equal(mask_of(module), before[layer])
        assert bool((weight[~before[layer]] == 0).all()) and bool(torch.isfinite(weight).all())
        assert torch.equal(grid.decode(grid.encode(weight)), weight)
        assert max(len(row.unique()) for row in weight.flatten(1)) <= 2**3 - 1


@pytest.mark.slow
@every_net
@every_rounding
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_no_more_values_to_a_scale_than_bits_can_tell_apart(
    name: str, rounding: str, scheme: str, granularity: str, clipping: str
) -> None:
    how = {"scheme": scheme, "granularity": granularity, "clipping": clipping}
    step = Quantize.model_validate({"bits": 2, "rounding": rounding, **how})
    model, _ = quantize(net(name), step, context(name))
    for _, module in compressible(model):
        weight, grid = weight_of(module), grid_held(module).grid
        parts = list(weight.flatten(1)) if granularity == "channel" else [weight]
        assert max(len(p.unique()) for p in parts) <= 2**2 - (scheme == "symmetric")
        assert torch.equal(grid.decode(grid.encode(weight)), weight)
        assert grid.scale.numel() == (len(weight) if granularity == "channel" else 1)


def squared_error(a: nn.Module, b: nn.Module) -> dict[str, float]:
    pairs = zip(compressible(a), compressible(b), strict=True)
    return {n: float((weight_of(x) - weight_of(y)).square().sum()) for (n, x), (_, y) in pairs}


def rounded(name: str, **how: Any) -> nn.Module:
    model, _ = quantize(net(name), Quantize.model_validate(how), context(name))
    return model


def ends(grid: QuantizationGrid) -> tuple[Tensor, Tensor]:
    zero = grid.zero_point.float()
    return (grid.low - zero) * grid.scale, (grid.high - zero) * grid.scale


@every_net
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("clipping", CLIPPINGS)
def test_nearest_is_within_half_a_scale_inside_the_range_and_keeps_zeros(
    name: str, scheme: str, granularity: str, clipping: str
) -> None:
    model = net(name)
    for _, module in compressible(model):
        put_weight(module, weight_of(module) * (torch.rand(module.weight.shape) > 0.2))  # type: ignore[arg-type]
    before = {n: weight_of(m).clone() for n, m in compressible(model)}
    step = {"bits": 4, "scheme": scheme, "granularity": granularity, "clipping": clipping}
    after, _ = quantize(model, Quantize.model_validate(step), context(name))
    for layer, module in compressible(after):
        old, new, grid = before[layer], weight_of(module), grid_held(module).grid
        least, most = ends(grid)
        inside = (old >= least) & (old <= most)
        limit = (grid.scale * (0.5 + 1e-4)).expand_as(old)
        assert bool(((new - old).abs() <= limit)[inside].all())
        assert bool((new[old == 0] == 0).all())


@pytest.mark.slow
@every_net
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("clipping", ["mse", "minmax"])
def test_weights_come_nearer_with_every_bit(name: str, scheme: str, clipping: str) -> None:
    original = net(name)
    made = [rounded(name, bits=b, scheme=scheme, clipping=clipping) for b in range(2, 9)]
    errors = [sum(squared_error(original, m).values()) for m in made]
    assert all(after < before for before, after in itertools.pairwise(errors))


@every_net
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_scale_per_channel_is_no_worse_in_any_layer(name: str, scheme: str, bits: int) -> None:
    original = net(name)
    channel, tensor = (
        squared_error(original, rounded(name, bits=bits, scheme=scheme, granularity=g))
        for g in ("channel", "tensor")
    )
    assert all(channel[n] <= tensor[n] * (1 + 1e-2) + 1e-12 for n in channel)
    assert sum(channel.values()) < sum(tensor.values())


@pytest.mark.slow
@every_net
@every_rounding
def test_same_seed_same_weights(name: str, rounding: str) -> None:
    made = []
    for _ in range(2):
        model, _ = prune(net(name), step_of("random", "global", update="obs"), context(name))
        step = Quantize.model_validate({"bits": 3, "rounding": rounding, "average_bits": 2.5})
        made.append(quantize(model, step, context(name))[0].state_dict())
    assert all(torch.equal(v, made[1][k]) for k, v in made[0].items())


@every_net
def test_random_scores_know_the_seed_and_nothing_else(name: str) -> None:
    other_weights = net(name)
    for _, module in compressible(other_weights):
        put_weight(module, torch.randn_like(weight_of(module)))
    step = step_of("random", "layer")
    first, again, other = (
        masks(prune(model, step, known)[0])
        for model, known in (
            (net(name), context(name)),
            (other_weights, context(name, data=False)),
            (net(name), context(name, seed=1)),
        )
    )
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert all(not torch.equal(first[n], other[n]) for n in first)


@every_net
@every_score
def test_what_is_zero_already_goes_first(name: str, score: str) -> None:
    model, _ = prune(net(name), Prune(sparsity=0.3), context(name))
    before = {n: weight_of(m).clone() for n, m in compressible(model)}
    found, notes = prune(model, step_of(score, "global", sparsity=0.3), context(name))
    assert all(torch.equal(before[n], weight_of(m)) for n, m in compressible(found))
    assert any("changed nothing" in note for note in notes)


@every_net
@every_score
def test_pruning_again_adds_zeros_to_those_there_are(name: str, score: str) -> None:
    first, _ = prune(net(name), Prune(sparsity=0.4), context(name))
    before = masks(first)
    second, _ = prune(first, step_of(score, "global"), context(name))
    after = masks(second)
    assert all(not bool((after[n] & ~before[n]).any()) for n in after)
    masked = sum(int((~m).sum()) for m in after.values())
    assert masked == round(SPARSITY * sum(m.numel() for m in after.values()))
