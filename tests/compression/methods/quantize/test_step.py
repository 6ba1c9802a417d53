"""The quantization step: bits where they are asked for, what is said, what is refused."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from compression.errors import InvalidInput
from compression.export.packed.format_v2 import dissect
from compression.export.packed.order0_coder import entropy_bytes
from compression.methods.prune.step import prune
from compression.methods.quantize import step as quantize_step
from compression.methods.quantize.block_reconstruction import reconstruct
from compression.methods.quantize.step import _fisher, quantize
from compression.models.input_quantizers import input_grids
from compression.models.load import original_of
from compression.models.parametrize import (
    compressible,
    grid_of,
    materialize,
    stored_weight,
    weight_of,
)
from compression.recipe.steps import Prune, Quantize
from tests.compression.tiny import NETS, context, context_of, grid_held, images, masks, net

every_net = pytest.mark.parametrize("name", NETS)
every_rounding = pytest.mark.parametrize("rounding", ["nearest", "gptq", "reconstruct"])


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconstruction for a few steps."""
    monkeypatch.setattr(quantize_step, "reconstruct", partial(reconstruct, epochs=3))


def made(name: str, **how: Any) -> tuple[nn.Module, tuple[str, ...]]:
    return quantize(net(name), Quantize.model_validate(how), context(name))


def bits_of(model: nn.Module) -> dict[str, int]:
    """Bits of each layer, of symmetric grids."""
    return {n: round(math.log2(grid_held(m).high + 1)) + 1 for n, m in compressible(model)}


def average(model: nn.Module) -> float:
    counts = {n: weight_of(m).numel() for n, m in compressible(model)}
    return sum(b * counts[n] for n, b in bits_of(model).items()) / sum(counts.values())


@torch.no_grad()
def distance(a: nn.Module, b: nn.Module) -> float:
    return float((a(images()) - b(images())).square().mean())


@torch.no_grad()
def power(model: nn.Module) -> float:
    return float(model(images()).square().mean())


@every_net
def test_each_rounding_is_nearer_than_the_one_before(name: str) -> None:
    found = [
        distance(made(name, bits=3, rounding=r)[0], net(name))
        for r in ("nearest", "gptq", "reconstruct")
    ]
    assert found[2] < found[1] < found[0]


@pytest.mark.slow
@every_net
@every_rounding
def test_answers_come_nearer_with_more_bits(name: str, rounding: str) -> None:
    two, four, eight = (
        distance(made(name, bits=b, rounding=rounding)[0], net(name)) for b in (2, 4, 8)
    )
    assert eight < 0.1 * four < 0.1 * two


@every_net
@every_rounding
def test_first_and_last_layer_have_their_own_bits(name: str, rounding: str) -> None:
    bits = bits_of(made(name, bits=3, edge_bits=8, rounding=rounding)[0])
    first, *between, last = bits.values()
    assert first == last == 8 and set(between) == {3}


@pytest.mark.slow
@every_net
@pytest.mark.parametrize("sensitivity", ["fisher", "direct"])
@pytest.mark.parametrize("asked", [2.0, 2.5, 3.7, 6.0])
def test_the_average_is_kept_and_nearly_used(name: str, sensitivity: str, asked: float) -> None:
    model, _ = made(name, bits=8, average_bits=asked, sensitivity=sensitivity)
    counts = [weight_of(m).numel() for _, m in compressible(model)]
    assert asked - max(counts) / sum(counts) <= average(model) <= asked + 1e-9
    assert all(2 <= b <= 8 for b in bits_of(model).values())


def test_no_layer_gets_more_than_the_most() -> None:
    model, _ = made("convolutional", bits=4, average_bits=3.5)
    assert max(bits_of(model).values()) <= 4


@every_net
def test_an_average_counts_the_edges(name: str) -> None:
    model, _ = made(name, bits=8, average_bits=5.6, edge_bits=8)
    bits = list(bits_of(model).values())
    assert bits[0] == bits[-1] == 8 and max(bits[1:-1]) < 8 and average(model) <= 5.6


@every_net
def test_an_average_that_the_edges_alone_exceed_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        made(name, bits=8, average_bits=2.0, edge_bits=8)
    said = re.fullmatch(
        r"average_bits: got 2.0, allowed: at least ([\d.]+) with .*", str(refused.value)
    )
    assert said
    model, _ = made(name, bits=8, average_bits=float(said[1]), edge_bits=8)
    bits = list(bits_of(model).values())
    assert set(bits[1:-1]) == {2} and average(model) == pytest.approx(float(said[1]), abs=1e-3)


@pytest.mark.slow
@every_net
@pytest.mark.parametrize("flat", [2, 3, 4, 6])
def test_mixed_costs_no_more_than_the_same_bits_everywhere(name: str, flat: int) -> None:
    step = Quantize(bits=8, average_bits=float(flat))
    table = _fisher(net(name), step, context(name))
    model, _ = quantize(net(name), step, context(name))
    mixed = sum(table[n][b] for n, b in bits_of(model).items())
    even = sum(row[flat] for row in table.values())
    # the solver's tolerance is relative to the largest cost there is
    assert mixed <= even + 1e-9 * sum(max(row.values()) for row in table.values())


@every_net
def test_fisher_costs_fall_with_every_bit(name: str) -> None:
    table = _fisher(net(name), Quantize(bits=8, average_bits=4), context(name))
    for row in table.values():
        assert row[8] < 0.01 * row[2]
        assert all(row[b + 2] < row[b] for b in range(2, 7))


@pytest.mark.parametrize("rounding", ["gptq", "reconstruct"])
def test_projections_in_attention_are_rounded_and_named(rounding: str) -> None:
    model, notes = made("transformer", bits=3, rounding=rounding)
    assert any(n.startswith("Rounded to nearest, because") and "out_proj" in n for n in notes)
    assert set(bits_of(model).values()) == {3}


@pytest.mark.slow
@every_net
@every_rounding
def test_activations_are_held_beside_weights(name: str, rounding: str) -> None:
    model, notes = made(name, bits=4, activation_bits=8, rounding=rounding, repair=["bias"])
    called = {n for n, _ in compressible(model) if not n.endswith("out_proj")}
    assert set(input_grids(model)) == called
    assert any("Activations stay float32" in n for n in notes) == (name == "transformer")
    only_weights, _ = made(name, bits=4, rounding=rounding, repair=["bias"])
    assert distance(model, only_weights) < 0.1 * power(only_weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rounding", "granularity"),
    [("nearest", "channel"), ("nearest", "tensor"), ("gptq", "tensor"), ("reconstruct", "channel")],
)
def test_equalization_is_the_same_function_in_eight_bits(rounding: str, granularity: str) -> None:
    """squeezenet1_1 has nothing but ReLUs between its layers."""
    original = original_of("fashion-mnist/squeezenet1_1")
    known = context_of(original)
    how = {"equalization": "cross-layer", "rounding": rounding, "granularity": granularity}
    model = copy.deepcopy(original)
    found, notes = quantize(model, Quantize.model_validate({"bits": 8, **how}), known)
    assert not any("qualiz" in n for n in notes)
    changed = [
        not torch.allclose(weight_of(a), weight_of(b), rtol=0.1, atol=0.02)
        for (_, a), (_, b) in zip(compressible(found), compressible(original), strict=True)
    ]
    assert any(changed)
    assert distance(found, original) < 1e-2 * power(original)


def test_what_cannot_be_equalized_is_said() -> None:
    _, notes = made("transformer", bits=8, equalization="cross-layer")
    assert any("qualiz" in n for n in notes)


@pytest.mark.slow
@every_net
@every_rounding
def test_zeros_of_pruning_stay_and_the_original_is_not_touched(name: str, rounding: str) -> None:
    known = context(name)
    pruned, _ = prune(net(name), Prune(sparsity=0.5, scope="layer", update="obs"), known)
    before = masks(pruned)
    step = Quantize.model_validate(
        {
            "bits": 4,
            "rounding": rounding,
            "scheme": "affine",
            "average_bits": 3,
            "activation_bits": 8,
            "repair": ["batchnorm", "bias"],
        }
    )
    found, _ = quantize(pruned, step, known)
    for n, module in compressible(found):
        assert torch.equal(masks(found)[n], before[n])
        assert bool((weight_of(module)[~before[n]] == 0).all())
    state = net(name).state_dict()
    assert all(torch.equal(v, state[k]) for k, v in known.original.state_dict().items())


@every_rounding
def test_quantizing_again_replaces_the_grid(rounding: str) -> None:
    first, _ = made("convolutional", bits=8)
    step = Quantize.model_validate({"bits": 3, "rounding": rounding})
    again, _ = quantize(first, step, context("convolutional"))
    assert set(bits_of(again).values()) == {3}
    assert all(grid_of(m) for _, m in compressible(again))


def test_what_is_on_the_grid_is_said_not_to_change() -> None:
    first, notes = made("convolutional", bits=8, clipping="minmax")
    assert not notes
    _, notes = quantize(first, Quantize(bits=8, clipping="minmax"), context("convolutional"))
    assert notes == ("Quantization changed nothing: the weights were on the grid.",)


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({"rounding": "gptq"}, "rounding"),
        ({"rounding": "reconstruct"}, "rounding"),
        ({"average_bits": 4}, "average_bits"),
        ({"activation_bits": 8}, "activation_bits"),
        ({"repair": ["bias"]}, "repair"),
        ({"repair": ["batchnorm"]}, "repair"),
    ],
    ids=str,
)
def test_what_needs_images_is_refused_without(how: dict[str, Any], field: str) -> None:
    model = net("convolutional")
    known = context("convolutional", data=False)
    with pytest.raises(InvalidInput, match=rf"^{field}: got .*images to calibrate on.*tiny/"):
        quantize(model, Quantize.model_validate(how), known)
    assert not any(grid_of(m) for _, m in compressible(model))


@every_net
def test_without_images_weights_can_be_rounded_and_equalized(name: str) -> None:
    step = Quantize(bits=4, edge_bits=8, equalization="cross-layer", clipping="percentile")
    model, _ = quantize(net(name), step, context(name, data=False))
    assert set(bits_of(model).values()) == {4, 8}


@every_net
@every_rounding
def test_progress_goes_from_nothing_to_all(name: str, rounding: str) -> None:
    told: list[float] = []
    known = replace(context(name), report=told.append)
    step = Quantize.model_validate({"bits": 4, "rounding": rounding, "repair": ["bias"]})
    quantize(net(name), step, known)
    assert told and all(0 <= f <= 1 for f in told) and told == sorted(told)


@every_rounding
def test_the_rest_in_half_precision_is_exact_there_and_makes_the_file_smaller(
    rounding: str,
) -> None:
    halved, _ = made("convolutional", rounding=rounding, rest="float16")
    whole, _ = made("convolutional", rounding=rounding)
    own = {id(stored_weight(m)) for _, m in compressible(halved)}
    rest = [t for t in (*halved.parameters(), *halved.buffers()) if id(t) not in own]
    floats = [t for t in rest if t.dtype == torch.float32]
    assert floats and all(torch.equal(t.half().float(), t) for t in floats)
    sizes = [
        sum(entropy_bytes(a) for a in dissect(m, materialize(m).state_dict())[1])
        for m in (halved, whole)
    ]
    assert sizes[0] < sizes[1]
    assert distance(halved, whole) < 1e-4 * power(whole)
