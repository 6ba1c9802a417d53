"""Every figure of size is what its name says, against an independent count."""

import gzip
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from compression.export.packed.file import pack
from compression.measure.size import Sizes, measure_sizes
from compression.methods.quantize.weight_ranges import mse
from compression.models.load import build
from compression.models.parametrize import (
    compressible,
    materialize,
    parametrize_weight,
    weight_of,
)
from tests.compression.tiny import remove_channels


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _model(name: str = "squeezenet1_1") -> nn.Module:
    torch.manual_seed(0)
    return build(name, 10)


def _sizes(model: nn.Module, name: str = "squeezenet1_1") -> Sizes:
    packed = pack(model, architecture=name, classes=10, details={})
    return measure_sizes(model, packed, original_parameters=1000)


def test_counts_of_a_dense_model() -> None:
    model = _model("shufflenet_v2_x0_5")
    sizes = _sizes(model, "shufflenet_v2_x0_5")
    floats = sum(t.numel() for t in model.state_dict().values() if t.is_floating_point())
    integers = sum(t.numel() for t in model.state_dict().values() if not t.is_floating_point())
    assert sizes.dense_bytes == 4 * floats + 8 * integers
    assert sizes.parameters == sum(p.numel() for p in model.parameters())
    assert sizes.nonzero == sum(int(p.count_nonzero()) for p in model.parameters())
    assert sizes.sparsity == pytest.approx(0, abs=1e-4)
    assert sizes.bits_per_weight == 8 * sizes.artifact_bytes / 1000


def test_sparsity_is_of_the_compressible_weights() -> None:
    model = _model()
    layers = [layer for _, layer in compressible(model)]
    zeros = 0
    for layer in layers:
        weight = weight_of(layer)
        mask = torch.rand_like(weight) > 0.75
        zeros += int((~mask).sum())
        parametrize_weight(layer, mask, None)
    total = sum(weight_of(layer).numel() for layer in layers)
    sizes = _sizes(model)
    assert sizes.sparsity == pytest.approx(zeros / total, abs=1e-6)
    biases = sum(int(layer.bias.count_nonzero()) for layer in layers)  # type: ignore
    assert sizes.nonzero == total - zeros + biases
    assert sizes.parameters == sum(p.numel() for p in _model().parameters())


@pytest.mark.slow
def test_gzip_is_close_to_gzip_of_the_whole() -> None:
    model = _model()
    for _, layer in compressible(model):
        parametrize_weight(layer, weight_of(layer).abs() > 0.05, None)
    state = materialize(model).state_dict().values()
    whole = len(gzip.compress(b"".join(t.numpy().tobytes() for t in state), 6))
    assert _sizes(model).gzip_bytes == pytest.approx(whole, rel=0.002)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bits"),
    [
        *(("shufflenet_v2_x0_5", bits) for bits in (None, 2, 4, 8)),
        ("squeezenet1_1", None),
        ("squeezenet1_1", 4),
        ("mobilenet_v3_small", 4),
    ],
)
def test_only_context_brings_a_file_below_the_bound(name: str, bits: int | None) -> None:
    model = _model(name)
    for _, layer in compressible(model):
        weight = weight_of(layer)
        parametrize_weight(layer, weight.abs() > weight.abs().median(), None)
        if bits:
            parametrize_weight(layer, None, mse(weight_of(layer), bits, True, True))
    sizes = _sizes(model, name)
    older = pack(model, architecture=name, classes=10, details={}, newest=2)
    assert sizes.entropy_bound_bytes <= len(older) < sizes.gzip_bytes
    assert sizes.artifact_bytes < 1.005 * sizes.entropy_bound_bytes + 2500
    assert sizes.artifact_bytes <= len(older)


@pytest.mark.slow
def test_measuring_leaves_the_model_alone() -> None:
    model = _model()
    for _, layer in compressible(model):
        parametrize_weight(
            layer, weight_of(layer).abs() > 0.01, mse(weight_of(layer), 4, False, True)
        )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    _sizes(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


@pytest.mark.slow
def test_fewer_channels_count_as_what_is_left_but_against_the_original() -> None:
    model = _model("mobilenet_v3_small")
    full = _sizes(model, "mobilenet_v3_small")
    example = torch.ones(1, 3, 64, 64)
    remove_channels(model, architecture="mobilenet_v3_small", example=example, sparsity=0.5)
    sizes = _sizes(model, "mobilenet_v3_small")
    left = sum(p.numel() for p in model.parameters())
    assert sizes.parameters == left < full.parameters / 2
    assert sizes.sparsity == pytest.approx(0, abs=1e-4)
    assert sizes.artifact_bytes < full.artifact_bytes / 2
    assert sizes.bits_per_weight == 8 * sizes.artifact_bytes / 1000
