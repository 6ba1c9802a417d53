"""Quantization by what a bit is worth: what it keeps, what it says, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from compression.cli.flags import recipe_of
from compression.errors import InvalidInput
from compression.export.packed import file
from compression.measure.accuracy import compare, predict
from compression.methods.calibration.batchnorm import Norm
from compression.methods.pipeline import compress
from compression.methods.prune.step import prune
from compression.methods.quantize.rate_distortion_step import (
    few_digits,
    on_steps,
    output_fisher,
    rate_distortion_quantize,
)
from compression.methods.quantize.step import quantize
from compression.models.load import load_model
from compression.models.parametrize import compressible, materialize, weight_of
from compression.recipe.inactive_fields import inactive_reasons
from compression.recipe.recipe import Recipe, parse
from compression.recipe.steps import (
    Distill,
    Prune,
    Quantize,
    Step,
)
from tests.compression.tiny import NETS, context, grid_held, images, masks, net, small_data

RATE = {"rounding": "gptq", "rate": 1.0}


def made(name: str, **how: Any) -> tuple[nn.Module, tuple[str, ...]]:
    return quantize(net(name), Quantize.model_validate({"rounding": "gptq", **how}), context(name))


def nonzero(model: nn.Module) -> int:
    return sum(int((weight_of(m) != 0).sum()) for _, m in compressible(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_every_weight_is_on_its_grid_and_a_higher_rate_leaves_fewer(name: str) -> None:
    kept = []
    for rate in (0.01, 10.0, 1e4):
        model, notes = made(name, rate=rate)
        for _, module in compressible(model):
            grid, weight = grid_held(module).grid, weight_of(module)
            assert torch.equal(grid.decode(grid.encode(weight)), weight)
        assert bool(torch.isfinite(model(images())).all())
        assert bool(notes) == (name == "transformer")  # attention is rounded to the nearest
        kept.append(nonzero(model))
    assert kept[0] > kept[1] > kept[2]


def test_rate_zero_is_gptq_bit_for_bit() -> None:
    plainly, _ = made("convolutional", bits=4, repair=("bias",))
    again, _ = made("convolutional", bits=4, repair=("bias",), rate=0.0)
    for (name, a), b in zip(plainly.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert Recipe(steps=(Quantize(bits=4, rounding="gptq", rate=0.0),)).key == "a04585757cdc"


def test_the_same_each_time_and_at_a_low_rate_hardly_different_from_the_original() -> None:
    (first, _), (again, _) = (made("convolutional", rate=0.001) for _ in range(2))
    assert torch.equal(first(images()), again(images()))
    original = net("convolutional")
    error = (first(images()) - original(images())).detach().square().mean()
    assert float(error) < 0.05 * float(original(images()).detach().var())


def test_zeros_stay_zero_and_batch_norms_are_a_factor_and_a_shift() -> None:
    model = net("convolutional")
    about = context("convolutional")
    model, _ = prune(model, Prune(sparsity=0.5), about)
    before = masks(model)
    model, _ = quantize(model, Quantize.model_validate(RATE), about)
    for name, module in compressible(model):
        assert bool((weight_of(module)[~before[name]] == 0).all())
    norms = [m for m in model.modules() if isinstance(m, Norm)]
    assert norms
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        assert not bool(norm.running_mean.any()) and bool((norm.running_var == 1).all())
        for values in (norm.weight, norm.bias):
            assert torch.equal(values.half().float(), values)


def test_a_dead_filter_leaves_the_mean_of_its_channel() -> None:
    model, about = net("convolutional"), context("convolutional")
    step = Quantize.model_validate({"rounding": "gptq", "rate": 1e4})
    rate_distortion_quantize(model, step, 1e9, about, output_fisher(step, about), lambda _: None)
    assert nonzero(model) == 0
    wanted, found = (m[2][:2](_to(m, images())) for m in (net("convolutional"), model))  # type: ignore[index]
    assert torch.allclose(found.mean((0, 2, 3)), wanted.mean((0, 2, 3)), atol=0.1)


def _to(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    for layer in list(model.children())[:2]:
        x = layer(x)
    return x


def test_few_digits_and_steps() -> None:
    values = torch.tensor([0.0, 1.0, -1.49, 3.3, 1e-3, 100.0])
    found = few_digits(values, 5)
    assert bool(((found - values).abs() <= values.abs() / 64).all())
    assert torch.equal(few_digits(found, 5), found)
    stepped = on_steps(values, torch.tensor(0.3))
    assert torch.equal(stepped, (values / 0.25).round() * 0.25)


@pytest.mark.slow
def test_the_file_gives_the_model_back() -> None:
    recipe = parse(Recipe, {"steps": [{"step": "quantize", **RATE, "rest": "float16"}]})
    name = "fashion-mnist/shufflenet_v2_x0_5"
    model = compress(name, recipe, device="cpu").model
    data = file.pack(model, architecture="shufflenet_v2_x0_5", classes=10, details={})
    few = small_data().validation
    assert torch.equal(
        predict(file.unpack(data), few).logits, predict(materialize(model), few).logits
    )
    before, after = (
        predict(m, few).logits.argmax(1) for m in (load_model(name).eval(), materialize(model))
    )
    assert float((before == after).float().mean()) > 0.95
    assert len(data) < 60_000  # GPTQ needs 132,000 bytes for 3 bits


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"rate": -1.0}, "rate: got -1.0, allowed: from 0 to 10000"),
        ({"keep_accuracy": 1.1}, "keep_accuracy: got 1.1, allowed: from 0 to 1, above 0"),
        ({"keep_accuracy": 0.0}, "keep_accuracy: got 0.0, allowed: from 0 to 1, above 0"),
    ],
)
def test_out_of_range_is_refused(how: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{said}$"):
        parse(Quantize, how)


def test_what_the_rate_decides_has_no_effect_beside_it() -> None:
    first, again = (
        made("convolutional", rate=1.0, **how)[0]
        for how in ({}, {"clipping": "minmax", "scheme": "affine", "repair": ("bias",)})
    )
    assert torch.equal(first(images()), again(images()))
    assert {"clipping", "scheme", "repair", "rounding"} <= set(
        inactive_reasons("quantize", {"rd_lambda": 1.0})
    )
    assert "rd_lambda" in inactive_reasons("quantize", {"rd_lambda": 1.0, "keep_accuracy": 0.9})


@pytest.mark.parametrize("step", [Distill(), Prune(sparsity=0.5), Quantize()])
def test_nothing_that_needs_statistics_comes_after(step: Step) -> None:
    recipe = Recipe(steps=(Quantize(rate=1.0), step))
    with pytest.raises(InvalidInput, match=f"^steps: got '{step.step}', .* batchnorm frozen"):
        compress("fashion-mnist/shufflenet_v2_x0_5", recipe, device="cpu")


def test_without_images_it_is_refused() -> None:
    about, step = context("convolutional", data=False), Quantize(keep_accuracy=0.9)
    with pytest.raises(
        InvalidInput, match=r"keep_accuracy: got 0\.9, allowed: a model with images"
    ):
        quantize(net("convolutional"), step, about)


def test_smallest_is_a_whole_recipe() -> None:
    recipe = recipe_of("fashion-mnist/resnet18", {}, None, None, "smallest", images=True)
    *_, step = recipe.steps
    assert isinstance(step, Quantize) and step.rate_distortion and (step.keep_accuracy or 0) >= 0.99
    assert "99.3 % of the accuracy" in recipe.sentence()
    with pytest.raises(InvalidInput, match="a whole recipe alone, without --bits"):
        recipe_of("m", {"bits": "4"}, None, None, "smallest", images=True)
    with pytest.raises(InvalidInput, match="need images"):
        recipe_of("m", {}, None, None, "smallest", images=False)


@pytest.mark.slow
@pytest.mark.parametrize("margin", ["none", "interval"])
def test_the_share_that_is_asked_for_is_kept(margin: str) -> None:
    about, share = context("convolutional"), 0.9
    step = parse(Quantize, {"keep_accuracy": share, "margin": margin})
    model, notes = quantize(net("convolutional"), step, about)
    few = small_data().validation
    before, after = (predict(m, few) for m in (net("convolutional"), materialize(model)))
    right = [int(p.right.sum()) for p in (before, after)]
    assert right[1] >= share * right[0]
    if margin == "interval":
        change = compare(before, after).change
        assert change.low >= -(1 - share) * right[0] / len(few) - 1e-12
    assert "mnat/kB" in notes[0]


@pytest.mark.slow
def test_where_chance_alone_refuses_it_says_so() -> None:
    step = Quantize(keep_accuracy=1.0, margin="interval")
    said = r"may lose more \(95 % interval over \d+ images"
    with pytest.raises(InvalidInput, match=said):
        quantize(net("convolutional"), step, context("convolutional"))
