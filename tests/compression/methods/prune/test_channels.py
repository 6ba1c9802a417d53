"""Channels really go: exact counts, a smaller model that runs, and everything held stays held."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from compression.catalogue.cards import cards
from compression.catalogue.channel_support import UNSUPPORTED, channels_supported, require_channels
from compression.data.splits import Split
from compression.errors import InvalidInput
from compression.export.packed.file import pack, unpack
from compression.methods.calibration.batchnorm import estimate_batchnorm
from compression.methods.prune.channel_counts import removed_globally, removed_per_layer, spare
from compression.methods.prune.channels import (
    choose_channels,
    remove,
    try_channels,
    what_stays,
)
from compression.methods.prune.step import prune
from compression.methods.quantize.weight_ranges import mse
from compression.models.input_quantizers import input_grids, parametrize_inputs
from compression.models.load import build, count_macs, skeleton
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    grid_of,
    mask_of,
    materialize,
    parametrize_weight,
    weight_of,
)
from compression.models.widths import resize, widths
from compression.recipe.steps import Prune
from tests.compression.tiny import context, images, net, remove_channels

NAMES = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1")
SHAPE = (3, 64, 64)
IMAGE = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _model(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, 10)


def _remove(model: nn.Module, name: str, sparsity: float = 0.5, **how: object) -> str | None:
    return remove_channels(model, architecture=name, example=IMAGE, sparsity=sparsity, **how)  # type: ignore[arg-type]


@cache
def _full_bytes(name: str) -> int:
    """Bytes of the file with all channels."""
    return len(pack(_model(name), architecture=name, classes=10, details={}))


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in materialize(model).parameters())


# How many go


@given(st.integers(1, 200), st.integers(1, 64))
def test_what_can_stay_is_a_multiple_and_at_least_one_step(units: int, round_to: int) -> None:
    removable = spare(units, 1, round_to)
    assert removable == sorted(set(removable)) and removable[0] == 0
    for removed in removable[1:]:
        assert units - removed >= round_to and (units - removed) % round_to == 0
    # nothing that could go was forgotten
    assert len(removable) == 1 + len([k for k in range(1, units) if k % round_to == 0])


@given(st.integers(2, 64), st.sampled_from([2, 6, 13, 32]), st.integers(1, 16))
def test_a_grouped_convolution_can_always_lose_something(
    units: int, size: int, round_to: int
) -> None:
    removable = spare(units, size, round_to)
    assert len(removable) > 1 and 0 < units - removable[-1] <= units // 2
    if units >= 2 * round_to:
        assert all((units - n) * size % round_to == 0 for n in removable[1:])


LAYERS = st.lists(
    st.tuples(st.integers(1, 60), st.sampled_from([1, 1, 1, 4])), min_size=1, max_size=6
)


@given(LAYERS, st.floats(0, 0.99), st.sampled_from([1, 3, 8]), st.integers(0, 1000))
def test_globally_at_least_what_is_asked_and_less_than_a_block_more(
    layers: list[tuple[int, int]], sparsity: float, round_to: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(units, generator=generator) for units, _ in layers]
    sizes = [size for _, size in layers]
    removed = removed_globally(scores, sizes, sparsity, round_to)
    removable = [spare(units, size, round_to) for units, size in layers]
    assert all(n in steps for n, steps in zip(removed, removable, strict=True))
    total = sum(units * size for units, size in layers)
    most = sum(steps[-1] * size for steps, size in zip(removable, sizes, strict=True))
    gone = sum(n * size for n, size in zip(removed, sizes, strict=True))
    asked = round(sparsity * total)
    assert gone >= min(asked, most)
    assert gone - asked < max(size * round_to for size in sizes)


@given(st.integers(2, 60), st.floats(0, 0.99), st.sampled_from([1, 3, 8]))
def test_per_layer_nothing_else_is_nearer(units: int, sparsity: float, round_to: int) -> None:
    (removed,) = removed_per_layer([torch.rand(units)], [1], sparsity, round_to)
    choices = spare(units, 1, round_to)
    assert removed in choices
    assert abs(removed - sparsity * units) == min(abs(n - sparsity * units) for n in choices)


def test_the_global_ranking_takes_from_the_layer_that_matters_least() -> None:
    scores = [torch.linspace(10, 11, 32), torch.linspace(0, 1, 32)]
    assert removed_globally(scores, [1, 1], 0.25, 8) == [0, 16]


# What is left


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_really_smaller_and_ships(name: str, scope: str) -> None:
    model = _model(name).to(memory_format=torch.channels_last)
    before, macs = _parameters(model), count_macs(model, SHAPE)
    note = _remove(model, name, 0.5, scope=scope)
    assert note is None
    assert _parameters(model) < 0.45 * before
    assert count_macs(model, SHAPE) < 0.5 * macs
    with torch.no_grad():
        out = model(IMAGE)
    assert out.shape == (2, 10) and bool(torch.isfinite(out).all())
    data = pack(model, architecture=name, classes=10, details={})
    assert len(data) < 0.45 * _full_bytes(name)
    loaded = unpack(data)
    found, expected = loaded.state_dict(), model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    with torch.no_grad():
        assert torch.equal(loaded(IMAGE.contiguous(memory_format=torch.channels_last)), out)


@pytest.mark.slow
@pytest.mark.parametrize("round_to", [1, 8, 16])
def test_exact_channel_counts_of_resnet(round_to: int) -> None:
    model = _model("resnet18")
    _remove(model, "resnet18", 0.3, scope="layer", round_to=round_to)
    stock = dict(compressible(_model("resnet18")))
    for name, layer in compressible(model):
        full = stock[name].weight.shape[0]  # type: ignore[union-attr, index]
        if name == "fc":
            assert weight_of(layer).shape[0] == 10
            continue
        kept = weight_of(layer).shape[0]
        assert kept % round_to == 0
        assert abs(kept - 0.7 * full) <= round_to / 2


def _rows(kept: Tensor, of: Tensor) -> list[int]:
    """Which rows of `of` are kept, in their order."""
    places = [[j for j, row in enumerate(of) if torch.equal(row, mine)] for mine in kept]
    assert all(len(p) == 1 for p in places)
    rows = [p[0] for p in places]
    assert rows == sorted(rows)
    return rows


def test_dependants_lose_the_channels_of_the_layer_and_no_others() -> None:
    model = _model("resnet18")
    old = dict(copy.deepcopy(model).state_dict())
    for norm in ("bn1", "layer1.0.bn1"):
        old[f"{norm}.running_mean"] = torch.randn(64)
    model.load_state_dict(old)
    _remove(model, "resnet18", 0.5, scope="layer")
    new = model.state_dict()
    stream = _rows(new["conv1.weight"], old["conv1.weight"])
    block = "layer1.0"
    inner = _rows(new[f"{block}.conv1.weight"], old[f"{block}.conv1.weight"][:, stream])
    assert len(stream) == len(inner) == 32
    assert torch.equal(new["bn1.running_mean"], old["bn1.running_mean"][stream])
    name = f"{block}.bn1.running_mean"
    assert torch.equal(new[name], old[name][inner])
    second = f"{block}.conv2.weight"
    assert torch.equal(new[second], old[second][stream][:, inner])


class Chain(nn.Module):
    """Two convolutions and a linear layer: small enough to say what must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.deep(self.norm(self.first(x)).relu()).mean((2, 3)))
        return out


@pytest.mark.parametrize("score", ["magnitude", "taylor", "batchnorm"])
def test_channels_that_do_nothing_go_first_and_the_answers_stay(score: str) -> None:
    torch.manual_seed(0)
    model = Chain().eval()
    dead = [1, 4, 6, 7]
    with torch.no_grad():
        for tensor in (*model.first.parameters(), *model.norm.parameters(), model.deep.weight):
            tensor[dead] = 0
        model.head.weight[:, dead] = 0
    x = torch.randn(4, 3, 8, 8)
    before = model(x)
    labelled = Split("calibration", x, torch.tensor([0, 1, 2, 3]))
    note = remove_channels(
        model,
        architecture="chain",
        example=x,
        sparsity=0.5,
        score=score,
        round_to=2,
        labelled=labelled,
    )
    assert note is None and model.deep.groups == model.first.out_channels == 4
    assert torch.allclose(model(x), before, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.slow
def test_masks_and_grids_stay_with_the_channels_that_stay() -> None:
    model = _model("mobilenet_v2")
    twin = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    for name, layer in compressible(model):
        weight = weight_of(layer)
        parametrize_weight(layer, torch.rand(weight.shape, generator=generator) > 0.5, None)
        parametrize_weight(layer, None, mse(weight_of(layer), 4, True, True))
        channels = weight.shape[0] if getattr(layer, "groups", 1) > 1 else 1
        scale = 0.01 + torch.arange(channels).view(1, -1, 1, 1) / 1000
        if weight.ndim == 4:
            zero = torch.zeros(scale.shape, dtype=torch.int16)
            parametrize_inputs(model, {name: QuantizationGrid(scale, zero, -128, 127)})
    # ordinary weights with the same values: pruned alike, they must come out alike
    for (_, layer), (_, other) in zip(compressible(model), compressible(twin), strict=True):
        with torch.no_grad():
            other.weight.copy_(weight_of(layer))  # type: ignore[operator, union-attr]
    _remove(model, "mobilenet_v2", 0.5)
    _remove(twin, "mobilenet_v2", 0.5)
    grids, others = input_grids(model), dict(compressible(twin))
    for name, layer in compressible(model):
        weight, mask, grid = weight_of(layer), mask_of(layer), grid_of(layer)
        assert torch.equal(weight, weight_of(others[name]))
        assert mask is not None and grid is not None
        assert mask.shape == weight.shape and not weight[~mask].any()
        assert grid.scale.shape[0] == weight.shape[0]
        if getattr(layer, "groups", 1) > 1:
            assert grids[name].scale.shape[1] == weight.shape[0]
            assert bool((grids[name].scale.diff(dim=1) > 0).all())
    loaded = unpack(pack(model, architecture="mobilenet_v2", classes=10, details={}))
    with torch.no_grad():
        assert torch.equal(loaded(IMAGE), materialize(model).eval()(IMAGE))


@pytest.mark.slow
def test_a_model_can_be_quantized_afterwards_and_ships() -> None:
    model = _model("resnet18")
    _remove(model, "resnet18")
    for _, layer in compressible(model):
        parametrize_weight(layer, None, mse(weight_of(layer), 4, True, True))
    data = pack(model, architecture="resnet18", classes=10, details={})
    assert len(data) < _parameters(model) * 4 / 8 * 1.1
    assert torch.equal(unpack(data)(IMAGE), materialize(model)(IMAGE))


# Compensation


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "regnet_y_400mf"])
def test_masked_the_model_answers_as_it_will_when_the_channels_are_gone(name: str) -> None:
    model = _model(name)
    generator = torch.Generator().manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # what a removed channel would say if it were heard
            nn.init.normal_(norm.bias, generator=generator)
    before = widths(model)
    plan = choose_channels(model, architecture=name, example=IMAGE, sparsity=0.5)
    stays = what_stays(model, plan)
    assert widths(model) == before and set(stays) == {n for n, _ in compressible(model)}
    for layer, module in compressible(model):
        parametrize_weight(module, stays[layer], None)
    estimate_batchnorm(model, [torch.randn(16, *SHAPE, generator=generator)])
    with torch.no_grad():
        masked = model(IMAGE)
        remove(model, plan)
        assert torch.allclose(model(IMAGE), masked, atol=1e-4, rtol=1e-4)
    assert widths(model) != before
    for layer, module in compressible(model):
        mask = mask_of(module)
        assert mask is not None and mask.all()
        assert weight_of(module).numel() == int(stays[layer].sum())


def _error(model: nn.Module) -> float:
    """Mean squared change of the answers, over that of answers that are always the same."""
    with torch.no_grad():
        wanted, found = net("convolutional")(images()), model(images())
    return float((wanted - found).square().mean() / (wanted - wanted.mean(0)).square().mean())


def _pruned(model: nn.Module | None = None, **how: object) -> nn.Module:
    step = Prune.model_validate({"sparsity": 0.4, "pattern": "channels", "round_to": 2, **how})
    model = net("convolutional") if model is None else model
    return prune(model, step, context("convolutional"))[0]


@pytest.mark.parametrize("score", ["magnitude", "random"])
def test_compensated_the_answers_change_less(score: str) -> None:
    repair = ("batchnorm", "bias")
    compensated = _pruned(score=score, update="obs", repair=repair)
    repaired = _pruned(score=score, repair=repair)
    # the same channels went, and nothing else is left of the masks
    assert widths(compensated) == widths(repaired) != widths(net("convolutional"))
    assert all(mask_of(m) is None for _, m in compressible(compensated))
    assert _error(compensated) < 0.5 * _error(repaired)
    assert _error(_pruned(score=score, update="obs")) < 0.5 * _error(_pruned(score=score))


def test_bias_repair_alone_takes_off_the_mean_error_of_the_answers() -> None:
    wanted = net("convolutional")(images()).mean(0)
    means = {r: _pruned(repair=r)(images()).mean(0) for r in ("none", "bias")}
    assert torch.allclose(means["bias"], wanted, atol=1e-3)
    assert not torch.allclose(means["none"], wanted, atol=0.1)


def test_what_was_held_before_compensation_stays_held() -> None:
    model = net("convolutional")
    generator = torch.Generator().manual_seed(0)
    layers = dict(compressible(model))
    for layer in list(layers.values())[1:]:
        parametrize_weight(
            layer, torch.rand(weight_of(layer).shape, generator=generator) > 0.3, None
        )
    pruned = _pruned(model, update="obs", repair=("bias",))
    masks = [mask_of(layer) for _, layer in compressible(pruned)]
    assert masks[0] is None
    for (_, layer), mask in list(zip(compressible(pruned), masks, strict=True))[1:]:
        assert mask is not None and mask.shape == weight_of(layer).shape
        assert 0.1 < float((~mask).float().mean()) < 0.6
        assert not weight_of(layer)[~mask].any()


def test_quantized_weights_keep_their_grids_but_are_not_compensated() -> None:
    def quantized() -> nn.Module:
        model = net("convolutional")
        for _, layer in compressible(model):
            parametrize_weight(layer, None, mse(weight_of(layer), 4, True, True))
        return model

    with pytest.raises(InvalidInput, match="prune before quantizing"):
        _pruned(quantized(), update="obs")
    pruned = _pruned(quantized(), repair=("bias",))
    for _, layer in compressible(pruned):
        grid = grid_of(layer)
        assert grid is not None and mask_of(layer) is None
        weight = weight_of(layer)
        assert torch.equal(grid.decode(grid.encode(weight)), weight)


@pytest.mark.slow
def test_normalisation_over_channels_that_go_is_not_compensated() -> None:
    model = skeleton("convnext_tiny", 10).to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    plan = choose_channels(model, architecture="convnext_tiny", example=IMAGE, sparsity=0.5)
    with pytest.raises(InvalidInput, match=r"convnext_tiny.*normalises over channels"):
        what_stays(model, plan)


# Chance


@pytest.mark.slow
def test_random_channels_come_from_the_seed_alone() -> None:
    files = []
    for seed, noise in ((1, 0), (1, 99), (2, 0)):
        model = _model("squeezenet1_1")
        torch.manual_seed(noise)
        state = torch.get_rng_state()
        _remove(model, "squeezenet1_1", score="random", seed=seed)
        assert torch.equal(state, torch.get_rng_state())
        files.append(pack(model, architecture="squeezenet1_1", classes=10, details={}))
    assert files[0] == files[1] != files[2]


@pytest.mark.slow
def test_the_same_magnitudes_give_the_same_bytes() -> None:
    files = []
    for _ in range(2):
        model = _model("mobilenet_v3_small")
        _remove(model, "mobilenet_v3_small")
        files.append(pack(model, architecture="mobilenet_v3_small", classes=10, details={}))
    assert files[0] == files[1]


# What is said and refused


def test_what_cannot_be_met_is_said() -> None:
    model = _model("resnet18")
    before = widths(model)
    assert "changed nothing" in str(_remove(model, "resnet18", 0.0))
    assert widths(model) == before
    note = str(_remove(model, "resnet18", 0.99, round_to=32))
    assert all(weight_of(m).shape[0] == 32 for n, m in compressible(model) if n != "fc")
    # the residual stream and two convolutions inside blocks, of 64 to 512 channels each
    removed = 1 - 12 * 32 / (3 * (64 + 128 + 256 + 512))
    assert f"{100 * removed:.3g} %" in note and "multiple of 32" in note


@pytest.mark.parametrize(
    ("name", "how", "says"),
    [
        ("resnet18", {"sparsity": 1.0}, "sparsity"),
        ("resnet18", {"score": "taylor"}, "data set"),
        ("resnet18", {"score": "obs"}, "magnitude"),
        ("squeezenet1_1", {"score": "batchnorm"}, "squeezenet1_1"),
        ("shufflenet_v2_x0_5", {}, "shufflenet_v2_x0_5.*shuffle"),
    ],
)
def test_what_is_refused(name: str, how: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        _remove(_model(name), name, **how)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_listed_architectures_exist_and_others_are_supported() -> None:
    known = {card.architecture for card in cards().values()}
    assert set(UNSUPPORTED) <= known
    assert all(channels_supported(name) is None for name in known - set(UNSUPPORTED))
    for name, reason in UNSUPPORTED.items():
        with pytest.raises(InvalidInput) as caught:
            require_channels(name)
        assert name in str(caught.value) and reason in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in UNSUPPORTED if n.startswith("shufflenet")])
def test_shufflenet_really_fails(name: str) -> None:
    with pytest.raises(InvalidInput, match="ZeroDivisionError"):
        try_channels(skeleton(name, 10), "not listed", SHAPE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*NAMES, "regnet_y_400mf", "resnext50_32x4d", "vgg11", "convnext_tiny", "mnasnet0_5"]
)
def test_a_trial_takes_no_memory_and_leaves_the_model_alone(name: str) -> None:
    model = skeleton(name, 10)
    before = widths(model)
    try_channels(model, name, (3, 224, 224))
    assert widths(model) == before


def test_a_small_vision_transformer_loses_channels_of_its_mlps() -> None:
    torch.manual_seed(0)
    model = VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10).eval()
    blank = copy.deepcopy(model)
    image = torch.randn(1, 3, 32, 32)
    note = remove_channels(model, architecture="vit", example=image, sparsity=0.5)
    assert note is not None and "MLP" in note
    inner = [block.mlp[0].out_features for block in model.encoder.layers]
    assert sum(inner) == 64 and all(n % 8 == 0 for n in inner)
    assert model(image).shape == (1, 10)
    resize(blank, widths(model))
    blank.load_state_dict(model.state_dict())
    assert torch.equal(blank(image), model(image))


@pytest.mark.slow
def test_grouped_convolutions_keep_their_groups() -> None:
    torch.manual_seed(0)
    model = build("regnet_x_400mf", 10)
    remove_channels(model, architecture="regnet_x_400mf", example=IMAGE, sparsity=0.5)
    grouped = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    stock = [m for m in build("regnet_x_400mf", 10).modules() if isinstance(m, nn.Conv2d)]
    assert [m.groups for m in grouped] == [m.groups for m in stock if m.groups > 1]
    assert all(m.out_channels % m.groups == 0 for m in grouped)
    data = pack(model, architecture="regnet_x_400mf", classes=10, details={})
    assert torch.equal(unpack(data)(IMAGE), model(IMAGE))
