"""An int8 graph has our codes and scales, runs on integer kernels, and answers as the model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from compression.data.datasets import FASHION_MNIST, load_dataset
from compression.export.onnx.calibration import ActivationRange, best_range, grid
from compression.export.onnx.cpu_features import saturates
from compression.export.onnx.int8_graph import Int8, int8_graph
from compression.export.onnx.sessions import predict_with, session
from compression.export.onnx.weight_codes import weight_codes
from compression.methods.quantize.observers import calibrate_inputs
from compression.methods.quantize.weight_ranges import CLIPPINGS
from compression.models.input_quantizers import input_grids, parametrize_inputs
from compression.models.load import load_model
from compression.models.parametrize import (
    compressible,
    grid_of,
    materialize,
    parametrize_weight,
    weight_of,
)
from tests.compression.architectures import FAMILIES, small
from tests.compression.tiny import images, net, remove_channels

# Bits of weights and activations, and the least agreement of labels with PyTorch.
BUNDLED = {
    "resnet18": (8, 8, 0.985),
    "mobilenet_v2": (4, 8, 0.97),
    # one input of a depthwise layer moves PyTorch's own labels by more than that
    "mobilenet_v3_small": (8, 8, 0.95),
    "shufflenet_v2_x0_5": (4, None, 0.97),
    "squeezenet1_1": (4, 8, 0.98),
}
TRANSFORMERS = ("convnext", "vit", "swin")


def compress(
    model: nn.Module,
    bits: int,
    activation_bits: int | None = None,
    *,
    symmetric: bool = True,
    per_channel: bool = True,
    granularity: str = "tensor",
) -> nn.Module:
    """Put weights on grids, in place, and inputs if asked."""
    for _, module in compressible(model):
        parametrize_weight(
            module, None, CLIPPINGS["mse"](weight_of(module), bits, symmetric, per_channel)
        )
    if activation_bits:
        grids = calibrate_inputs(model, [images()], activation_bits, "mse", granularity)
        parametrize_inputs(model, grids)
    return model


def made_of(model: nn.Module, name: str, **how: Any) -> Int8:
    return int8_graph(model, name, images()[:1], images(), **how)


def answers(found: Int8, pictures: Tensor) -> Tensor:
    return predict_with(session(found.graph), pictures)


def numbers(found: Int8) -> dict[str, NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in found.graph.graph.initializer}


def kernels(found: Int8, folder: Path) -> Counter[str]:
    """What the engine made of the graph."""
    path = folder / "optimized.onnx"
    session(found.graph, optimized_path=str(path))
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def noise(found: Tensor, wanted: Tensor) -> float:
    """Power of the difference, relative."""
    return float((found - wanted).square().sum() / wanted.square().sum())


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_models_keep_their_labels_on_integer_kernels(name: str, tmp_path: Path) -> None:
    bits, activation_bits, least = BUNDLED[name]
    model = compress(load_model(f"fashion-mnist/{name}"), bits, activation_bits)
    found = made_of(model, name)
    split = load_dataset("fashion-mnist").validation.head(1000)
    pictures = FASHION_MNIST(split.images)
    expected, labels = model(pictures).argmax(1), answers(found, pictures).argmax(1)
    assert float((labels == expected).float().mean()) >= least
    right = [float((x == split.labels).float().mean()) for x in (labels, expected)]
    assert right[0] > right[1] - 0.015
    assert set(found.layers.values()) == {""}
    ran = kernels(found, tmp_path)
    layers = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert ran["QLinearConv"] == layers and not ran["Conv"] + ran["Gemm"] + ran["MatMul"]
    assert ran["DequantizeLinear"] <= 1 == ran["QuantizeLinear"]


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_one_of_each_family_runs_its_layers_as_int8(family: str, tmp_path: Path) -> None:
    model = compress(small(family), 8, 8)
    found = made_of(model, family)
    pictures = images()[:32]
    assert noise(answers(found, pictures), model(pictures)) < 0.02
    assert answers(found, pictures[:1]).shape == (1, 10)
    assert set(found.layers.values()) == {""}
    ran = kernels(found, tmp_path)
    products = ran["QLinearConv"] + ran["QGemm"] + ran["MatMulIntegerToFloat"]
    assert products >= len(found.layers) and not ran["Conv"]
    said = " ".join(found.notes)
    assert ("LayerNormalization" in said) == (family in TRANSFORMERS)
    assert ("in_proj_weight" in said) == (family == "vit")
    onnx.checker.check_model(found.graph)


def _random_signs(model: nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = torch.randn(module.num_features, generator=draw)
            module.weight.data[0] = 0.0
            module.bias.data = torch.randn(module.num_features, generator=draw)


FOLDED = {"0.0": "0.1", "2.0": "2.1", "4.0": "4.1", "5": None, "9": None}


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.integers(2, 8), st.booleans(), st.booleans(), st.integers(0, 99))
def test_codes_are_ours_and_turn_with_the_sign_of_what_is_folded(
    bits: int, symmetric: bool, per_channel: bool, seed: int
) -> None:
    model = net("convolutional")
    _random_signs(model, seed)
    compress(model, bits, symmetric=symmetric, per_channel=per_channel)
    found = made_of(model, "convolutional", reduce_range=False)
    held = numbers(found)
    for name, norm in FOLDED.items():
        module = model.get_submodule(name)
        grid = grid_of(module)
        assert grid is not None
        ours = grid.encode(weight_of(module)) - grid.zero_point
        factor = torch.ones(len(ours))
        if norm:
            after = model.get_submodule(norm)
            assert isinstance(after, nn.BatchNorm2d) and after.running_var is not None
            factor = after.weight.detach() / torch.sqrt(after.running_var + after.eps)
        rows = [-1, *[1] * (ours.ndim - 1)]
        codes = torch.from_numpy(held[f"{name}.weight_codes"].astype(np.int32))
        steps = torch.from_numpy(held[f"{name}.weight_scale"].copy())
        wanted = weight_of(module) * factor.view(rows)
        near = 1e-5 * wanted.abs()
        if bits == 8 and not symmetric:
            # rounded again where 8 bits from the zero point are too few; -128 has no opposite
            turned = (ours == -128) & (factor.view(rows) < 0)
            kept = ours.flatten(1).amax(1) <= 127  # -128 to 127 is not rounded again
            kept &= ours.flatten(1).amin(1) >= -128
            assert bool((codes[turned & kept.view(rows)] == 127).all())
            near = near + torch.where(turned, 1.001, 0.501) * steps.view(rows)
        assert bool(((codes * steps.view(rows) - wanted).abs() <= near + 1e-9).all())
        if bits < 8 or symmetric:
            assert torch.equal(codes, (ours * factor.sign().view(rows)).int())
            assert held[f"{name}.weight_codes"].dtype == np.int8


@torch.inference_mode()
@pytest.mark.parametrize(("activation_bits", "most"), [(4, 1e-2), (8, 1e-4)])
def test_a_chain_of_layers_rounds_where_the_model_rounds(activation_bits: int, most: float) -> None:
    model = compress(net("convolutional"), 4, activation_bits)
    found = made_of(model, "convolutional")
    held, scales = numbers(found), {float(g.scale) for g in input_grids(model).values()}
    steps = {float(v) for k, v in held.items() if k.endswith("_codes_scale") and v.ndim == 0}
    assert len(scales) == 5
    assert all(any(np.isclose(a, b, rtol=1e-6) for b in steps) for a in scales)
    # biases are rounded to the products' unit, which turns a code here and there
    assert noise(answers(found, images()), model(images())) < most


def test_plain_weights_that_lie_on_grids_have_the_same_graph() -> None:
    model = compress(net("convolutional"), 3)
    held, seen = made_of(model, "convolutional"), made_of(materialize(model), "convolutional")
    assert not any("rounded" in note for note in (*held.notes, *seen.notes))
    a, b = numbers(held), numbers(seen)
    assert a.keys() == b.keys()
    for name, value in a.items():
        if name.endswith("weight_codes"):
            steps = [x[name.replace("_codes", "_scale")] for x in (a, b)]
            rows = [-1, *[1] * (value.ndim - 1)]
            second = b[name] * steps[1].reshape(rows)
            assert np.allclose(value * steps[0].reshape(rows), second, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 8), st.booleans(), st.integers(0, 10_000))
def test_codes_of_any_weight_stay_within_half_a_step(bits: int, affine: bool, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 3, 3, 3, generator=draw) + (0.8 if affine else 0.0)
    weight[0] = 0.0
    grid = CLIPPINGS["minmax"](weight, bits, not affine, True)
    snapped = grid.decode(grid.encode(weight))
    for given_grid in (grid, None):
        for most, reduced in ((127, False), (64, True)):
            found = weight_codes(snapped, given_grid, reduced)
            assert np.abs(found.codes.astype(int)).max() <= most + (not reduced)
            error = np.abs(found.codes * found.scale.reshape(-1, 1, 1, 1) - snapped.numpy())
            assert "no grid" not in found.rounded
            slack = 0.501 if found.rounded else 1e-4
            assert (error <= slack * found.scale.reshape(-1, 1, 1, 1) + 1e-9).all()
            assert not found.rounded or bits == 8 or (reduced and affine)
    free = weight_codes(weight, None)
    assert "8 bits" in free.rounded
    steps = free.scale.reshape(-1, 1, 1, 1)
    power = ((free.codes * steps - weight.numpy()) ** 2).sum() / weight.square().sum()
    assert float(power) < 1e-4


@torch.inference_mode()
def test_reduced_range_never_overflows_sixteen_bits_and_says_so() -> None:
    model = compress(net("convolutional"), 8)
    found = made_of(model, "convolutional", reduce_range=True)
    codes = [v for k, v in numbers(found).items() if k.endswith("weight_codes")]
    assert all(255 * 2 * int(np.abs(c.astype(int)).max()) < 2**15 for c in codes)
    assert any("7 bits" in note for note in found.notes)
    assert noise(answers(found, images()), model(images())) < 1e-2
    whole = made_of(model, "convolutional", reduce_range=False)
    assert any(np.abs(v).max() > 64 for k, v in numbers(whole).items() if k.endswith("ght_codes"))
    assert saturates() in (True, False)


@torch.inference_mode()
def test_a_scale_per_channel_becomes_one_and_is_told() -> None:
    model = compress(net("convolutional"), 8, 8, granularity="channel")
    found = made_of(model, "convolutional")
    assert any("scale per channel" in note and "4.0" in note for note in found.notes)
    assert noise(answers(found, images()), model(images())) < 1e-2


@torch.inference_mode()
def test_means_of_layers_are_the_models() -> None:
    model = net("convolutional")
    _random_signs(model, 1)
    compress(model, 3, 6)
    found = made_of(model, "convolutional").graph
    layers = [n for n in found.graph.node if n.op_type in ("Conv", "Gemm")]
    outputs = {n.input[1].removesuffix(".weight_value"): n.output[0] for n in layers}
    found.graph.output.extend(
        onnx.ValueInfoProto(name=outputs[n]) for n in FOLDED if outputs[n] != "logits"
    )
    pictures = images()[:64]
    held = session(found).run([outputs[n] for n in FOLDED], {"images": pictures.numpy()})
    ours: dict[str, Tensor] = {}
    for name, norm in FOLDED.items():
        model.get_submodule(norm or name).register_forward_hook(
            lambda _, __, out, name=name: ours.__setitem__(name, out.clone())
        )
    model(pictures)
    for name, out in zip(FOLDED, held, strict=True):
        axes = (0, *range(2, out.ndim))
        shift = np.abs(out.mean(axes) - ours[name].numpy().mean(axes)).max()
        assert shift < 0.03 * float(ours[name].std())


class Gated(nn.Module):
    """Hard gates, a residual sum, a product, and a relu before what stays float32."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 2, 1)
        self.second = nn.Conv2d(8, 8, 3, 1, 1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.hardswish(self.first(x))
        y = nn.functional.hardswish(self.second(x))
        y = y * nn.functional.hardsigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        y = nn.functional.relu(x + y)
        return nn.functional.relu(self.last(y.mean((2, 3)))).softmax(1)


@pytest.mark.slow
@torch.inference_mode()
def test_hard_gates_are_read_off_the_codes(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = Gated().eval()
    for module in (model.first, model.second, model.gate):
        module.weight.mul_(4)
    compress(model, 8)
    found = made_of(model, "gated")
    assert noise(answers(found, images()), model(images())) < 1e-3
    ran = kernels(found, tmp_path)
    assert ran["QLinearConv"] == 3 and ran["QLinearMul"] == 3 and ran["QLinearAdd"] == 1
    assert not ran["HardSwish"] + ran["HardSigmoid"]


@torch.inference_mode()
def test_a_channel_of_nothing_keeps_its_bias() -> None:
    model = net("convolutional")
    norm = model.get_submodule("0.1")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight[:2], norm.bias[:2] = torch.tensor([0.0, 1e-12]), torch.tensor([1.5, 2.5])
    compress(model, 8, 8)
    assert noise(answers(made_of(model, "convolutional"), images()), model(images())) < 1e-3


@pytest.mark.slow
def test_removed_channels_are_not_in_the_graph() -> None:
    model = net("convolutional")
    how: dict[str, Any] = {"example": images()[:1], "sparsity": 0.4, "round_to": 2}
    remove_channels(model, architecture="convolutional", **how)
    compress(model, 4, 8)
    found = made_of(model, "convolutional")
    held = numbers(found)
    for name, module in compressible(model):
        assert held[f"{name}.weight_codes"].shape == tuple(weight_of(module).shape)
    whole = sum(m.weight.numel() for _, m in compressible(net("convolutional")))
    assert sum(v.size for k, v in held.items() if k.endswith("weight_codes")) < 0.7 * whole
    with torch.no_grad():
        assert noise(answers(found, images()), model(images())) < 1e-3


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 100), st.floats(-3, 3), st.integers(0, 10_000))
def test_the_best_range_beats_the_whole_one(spread: float, middle: float, seed: int) -> None:
    values = spread * (np.random.default_rng(seed).standard_t(3, 4000) + middle)
    values = values.astype(np.float32)
    low, high = float(min(values.min(), 0)), float(max(values.max(), 0))

    def error(ends: tuple[float, float]) -> float:
        scale, zero = grid(*ends)
        assert 0 <= zero <= 255
        codes = np.clip(np.rint(values / scale) + zero, 0, 255)
        return float((((codes - zero) * scale - values) ** 2).sum())

    found = best_range(ActivationRange(low, high, values))
    assert low <= found[0] <= 0 <= found[1] <= high
    assert error(found) <= 1.02 * error((low, high))
