"""The pruning step: what compensation and repair buy, what is said, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from compression.errors import InvalidInput
from compression.methods.prune.step import prune
from compression.methods.quantize.weight_ranges import minmax
from compression.models.parametrize import (
    compressible,
    grid_of,
    parametrize_weight,
    weight_of,
)
from compression.recipe.steps import Prune
from tests.compression.tiny import NETS, context, images, masks, net

every_net = pytest.mark.parametrize("name", NETS)


def made(name: str, **how: Any) -> tuple[nn.Module, tuple[str, ...]]:
    return prune(net(name), Prune.model_validate(how), context(name))


@torch.no_grad()
def distance(a: nn.Module, b: nn.Module) -> float:
    return float((a(images()) - b(images())).square().mean())


@pytest.mark.slow
@every_net
@pytest.mark.parametrize("score", ["magnitude", "obs", "random"])
def test_compensation_brings_the_answers_nearer(name: str, score: str) -> None:
    how = {"sparsity": 0.5, "scope": "layer", "score": score}
    bare, compensated = (made(name, **how, update=u)[0] for u in ("none", "obs"))
    assert all(torch.equal(m, masks(compensated)[n]) for n, m in masks(bare).items())
    assert distance(compensated, net(name)) < 0.8 * distance(bare, net(name))


@pytest.mark.parametrize("repair", [["batchnorm"], ["bias"], ["batchnorm", "bias"]])
def test_repair_brings_the_answers_nearer_and_moves_no_weight(repair: list[str]) -> None:
    how = {"sparsity": 0.5, "scope": "layer", "score": "random"}
    bare, repaired = (made("convolutional", **how, repair=r)[0] for r in ([], repair))
    pairs = zip(compressible(bare), compressible(repaired), strict=True)
    assert all(torch.equal(weight_of(a), weight_of(b)) for (_, a), (_, b) in pairs)
    assert distance(repaired, net("convolutional")) < distance(bare, net("convolutional"))


@every_net
def test_the_original_is_not_touched(name: str) -> None:
    known = context(name)
    made(name, sparsity=0.5, score="obs", update="obs", repair=["batchnorm", "bias"])
    for kept in (known.original, known.reference):
        state = net(name).state_dict()
        assert all(torch.equal(v, state[k]) for k, v in kept.state_dict().items())


def test_projections_in_attention_are_pruned_and_said_not_to_be_compensated() -> None:
    model, notes = made("transformer", sparsity=0.5, scope="layer", score="obs", update="obs")
    (note,) = (n for n in notes if "attention" in n)
    assert note.startswith("Not compensated") and "out_proj" in note
    for layer, mask in masks(model).items():
        if layer.endswith("out_proj"):
            assert int((~mask).sum()) == mask.numel() // 2


def test_layers_whose_inputs_do_not_divide_are_named() -> None:
    _, notes = made("convolutional", pattern="2:4")
    # three colours, and the single inputs of a depthwise convolution
    assert notes == ("2 of 5 layers stay whole, for their inputs are no multiple of 4: 0.0, 4.0.",)
    _, notes = made("convolutional", pattern="4:8")
    assert "3 of 5 layers" in notes[0] and "no multiple of 8" in notes[0]
    _, notes = made("transformer", pattern="2:4")
    assert "1 of 8 layers" in notes[0]


def test_a_threshold_is_about_magnitudes() -> None:
    model, _ = made("convolutional", threshold=0.1, repair=["batchnorm"])
    original = dict(compressible(net("convolutional")))
    for n, mask in masks(model).items():
        assert torch.equal(mask, weight_of(original[n]).abs() >= 0.1)


def test_sparsity_where_it_costs_least_is_better_than_the_same_everywhere() -> None:
    original = net("convolutional")
    even, allocated = (
        made("convolutional", sparsity=0.5, scope=s)[0] for s in ("layer", "allocated")
    )
    assert distance(allocated, original) < 0.9 * distance(even, original)


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({"sparsity": 0.5, "update": "obs"}, "update"),
        ({"sparsity": 0.5, "repair": ["batchnorm"]}, "repair"),
        ({"sparsity": 0.5, "repair": ["batchnorm", "bias"]}, "repair"),
        ({"sparsity": 0.5, "scope": "allocated"}, "scope"),
        ({"max_drop": 1.0}, "max_drop"),
        *(
            ({"sparsity": 0.5, "score": s}, "score")
            for s in ("activation", "taylor", "fisher", "obs")
        ),
        ({"pattern": "2:4", "score": "obs"}, "score"),
        ({"pattern": "channels", "sparsity": 0.5, "score": "taylor"}, "score"),
    ],
    ids=str,
)
def test_what_needs_images_is_refused_without(how: dict[str, Any], field: str) -> None:
    model = net("convolutional")
    known = context("convolutional", data=False)
    with pytest.raises(InvalidInput, match=rf"^{field}: got .*images to calibrate on.*tiny/"):
        prune(model, Prune.model_validate(how), known)
    assert all(bool(m.all()) for m in masks(model).values())


@pytest.mark.parametrize(
    "how", [{"sparsity": 0.5}, {"sparsity": 0.5, "scope": "layer"}, {"pattern": "2:4"}], ids=str
)
@pytest.mark.parametrize("score", ["magnitude", "random"])
def test_what_needs_no_images_works_without(how: dict[str, Any], score: str) -> None:
    step = Prune.model_validate({**how, "score": score})
    found, _ = prune(net("transformer"), step, context("transformer", data=False))
    assert not all(bool(m.all()) for m in masks(found).values())


def test_quantized_weights_are_pruned_but_not_compensated() -> None:
    model = net("convolutional")
    for _, module in compressible(model):
        parametrize_weight(module, None, minmax(weight_of(module), 4, True, True))
    with pytest.raises(InvalidInput, match=r"^update: got 'obs'.*prune before quantizing"):
        prune(model, Prune(sparsity=0.5, update="obs"), context("convolutional"))
    step = Prune(sparsity=0.5, score="obs", repair=("batchnorm", "bias"))
    found, _ = prune(model, step, context("convolutional"))
    for _, module in compressible(found):
        grid = grid_of(module)
        assert grid is not None
        weight = weight_of(module)
        assert torch.equal(grid.decode(grid.encode(weight)), weight)


@pytest.mark.parametrize("scope", ["global", "layer", "allocated"])
def test_an_emptied_layer_is_refused(scope: str) -> None:
    with pytest.raises(InvalidInput, match=r"^sparsity: got 1.0.*would become zero"):
        made("convolutional", sparsity=1.0, scope=scope)


@every_net
def test_progress_goes_from_nothing_to_all(name: str) -> None:
    told: list[float] = []
    known = replace(context(name), report=told.append)
    prune(net(name), Prune(sparsity=0.5, scope="allocated", score="obs", update="obs"), known)
    assert told and all(0 <= f <= 1 for f in told) and told == sorted(told)


def test_as_much_as_accuracy_allows() -> None:
    known = context("convolutional")
    model, notes = made("convolutional", max_drop=100.0, scope="layer", score="obs", update="obs")
    assert "Bisection found a sparsity of" in notes[0]
    share = torch.cat([(~m).flatten() for m in masks(model).values()]).float().mean()
    assert f"{100 * float(share):.1f}"[:2] in notes[0]
    assert all(bool(m.any()) for m in masks(model).values())
    assert known.original is not model
