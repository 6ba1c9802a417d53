"""A model beside its reference: what each layer is given, and what may be changed there."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models as tv

from compression.methods.calibration.batchnorm import estimate_batchnorm
from compression.methods.calibration.paired_forward import LayerPair, paired_forward, same_structure
from compression.methods.quantize.observers import calibrate_inputs
from compression.methods.quantize.weight_ranges import minmax
from compression.models import activation_memory as module_of_memory
from compression.models.activation_memory import activation_memory
from compression.models.input_quantizers import input_grids, parametrize_inputs
from compression.models.parametrize import (
    compressible,
    parametrize_weight,
    put_weight,
    weight_of,
)
from tests.compression.tiny import NETS, images, net

every_net = pytest.mark.parametrize("name", NETS)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def together(batches: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(batches))


def nothing(_: LayerPair) -> None:
    """Change nothing."""


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def rounded(name: str, bits: int = 3) -> nn.Module:
    model = net(name)
    for _, module in compressible(model):
        parametrize_weight(module, None, minmax(weight_of(module), bits, True, True))
    return model


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The outputs of all called compressible layers."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, __, out: found.__setitem__(name, out)

    held = [m.register_forward_hook(keep(n)) for n, m in compressible(model)]
    model(x)
    for hook in held:
        hook.remove()
    return found


@torch.no_grad()
def inputs(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What the called compressible layers are given."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda _, given: found.__setitem__(name, given[0])

    held = [m.register_forward_pre_hook(keep(n)) for n, m in compressible(model)]
    model(x)
    for hook in held:
        hook.remove()
    return found


@every_net
def test_an_unchanged_model_is_given_what_its_reference_is(name: str) -> None:
    reference, model, x = net(name), net(name), images()
    before, state = model(x), copy.deepcopy(model.state_dict())
    met: list[str] = []

    def visit(meeting: LayerPair) -> None:
        assert torch.allclose(
            together(meeting.inputs), together(meeting.reference_inputs), atol=1e-5
        )
        assert meeting.module is model.get_submodule(meeting.name)
        assert meeting.reference is reference.get_submodule(meeting.name)
        met.append(meeting.name)

    missed = paired_forward(reference, model, [x], visit)
    assert set(met) | set(missed) == set(dict(compressible(model))) and len(set(met)) == len(met)
    assert torch.equal(model(x), before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not hooks(model) and not hooks(reference)


@every_net
def test_inputs_are_those_of_either_model_alone(name: str) -> None:
    reference, model, x = net(name), rounded(name), images()
    theirs, ours = inputs(reference, x), inputs(model, x)

    def visit(meeting: LayerPair) -> None:
        assert torch.allclose(together(meeting.reference_inputs), theirs[meeting.name], atol=1e-4)
        assert torch.allclose(together(meeting.inputs), ours[meeting.name], atol=1e-4)

    paired_forward(reference, model, [x], visit)


def test_what_is_changed_in_a_layer_is_felt_by_the_later_ones_alone() -> None:
    reference, model, x = net("convolutional"), net("convolutional"), images()
    order: list[str] = []
    apart: dict[str, float] = {}

    def visit(meeting: LayerPair) -> None:
        order.append(meeting.name)
        apart[meeting.name] = float(
            (together(meeting.inputs) - together(meeting.reference_inputs)).abs().max()
        )
        if len(order) == 2:
            put_weight(meeting.module, 2 * weight_of(meeting.module))

    paired_forward(reference, model, [x], visit)
    assert order == list(dict(compressible(model)))
    assert max(apart[n] for n in order[:2]) < 1e-5 < 1e-2 < min(apart[n] for n in order[2:])
    untouched = net("convolutional")
    assert torch.equal(reference(x), untouched(x))


def test_projections_inside_attention_are_reported_as_not_called() -> None:
    model = net("transformer")
    missed = paired_forward(net("transformer"), model, [images()], nothing)
    assert missed == tuple(n for n, _ in compressible(model) if n.endswith("out_proj"))
    assert len(missed) == 2
    assert paired_forward(net("convolutional"), net("convolutional"), [images()], nothing) == ()


@every_net
@pytest.mark.parametrize("batchnorm", [False, True])
def test_no_hook_and_no_mode_is_left_when_a_visit_raises(name: str, batchnorm: bool) -> None:
    reference, model = net(name), net(name)
    momenta = [(m.momentum, m.training) for m in model.modules() if isinstance(m, NORMS)]

    def visit(meeting: LayerPair) -> None:
        raise RuntimeError(meeting.name)

    with pytest.raises(RuntimeError):
        paired_forward(reference, model, [images()], visit, batchnorm=batchnorm)
    assert not hooks(model) and not hooks(reference)
    assert momenta == [(m.momentum, m.training) for m in model.modules() if isinstance(m, NORMS)]


def test_input_grids_are_for_the_compressed_half_and_stay() -> None:
    reference, model, x = net("convolutional"), net("convolutional"), images()
    parametrize_inputs(model, calibrate_inputs(model, [x], 4, "minmax"))
    grids = input_grids(model)
    theirs = inputs(reference, x)

    def visit(meeting: LayerPair) -> None:
        grid = grids[meeting.name]
        assert torch.allclose(
            grid.decode(grid.encode(together(meeting.inputs))), together(meeting.inputs)
        )
        assert torch.allclose(together(meeting.reference_inputs), theirs[meeting.name], atol=1e-4)

    before = model(x)
    paired_forward(reference, model, [x], visit)
    assert torch.equal(model(x), before)


def test_running_statistics_become_those_of_the_images() -> None:
    reference, model, x = net("convolutional"), rounded("convolutional"), images()
    paired_forward(reference, model, [x], nothing, batchnorm=True)
    first = model.get_submodule("0.0")(x)
    norm = model.get_submodule("0.1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    assert torch.allclose(norm.running_mean, first.mean((0, 2, 3)), atol=1e-3)
    assert torch.allclose(norm.running_var, first.var((0, 2, 3)), rtol=1e-3)
    twin = rounded("convolutional")
    estimate_batchnorm(twin, [x])
    state = twin.state_dict()
    kept = [k for k in state if not k.endswith("num_batches_tracked")]
    for key in kept:
        value = model.state_dict()[key]
        assert torch.allclose(value.float(), state[key].float(), rtol=1e-3, atol=2e-3), key
    untouched = net("convolutional").state_dict()
    assert all(torch.equal(v, untouched[k]) for k, v in reference.state_dict().items())


def test_later_statistics_are_taken_with_the_earlier_ones_in_place() -> None:
    model, x = rounded("convolutional"), images()
    estimate_batchnorm(model, [x])
    seen = outputs(model, x)
    for layer, norm_name in (("0.0", "0.1"), ("2.0", "2.1"), ("4.0", "4.1")):
        norm = model.get_submodule(norm_name)
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
        # up to n / (n - 1) in the variances before
        assert torch.allclose(norm.running_mean, seen[layer].mean((0, 2, 3)), atol=2e-3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_momentum_and_mode_are_as_before(training: bool, momentum: float | None) -> None:
    model = net("convolutional")
    for module in model.modules():
        if isinstance(module, NORMS):
            module.momentum = momentum
    model.train(training)
    estimate_batchnorm(model, [images()])
    assert all(m.training == training for m in model.modules())
    assert {m.momentum for m in model.modules() if isinstance(m, NORMS)} == {momentum}


def test_without_batch_norm_nothing_is_estimated() -> None:
    model = net("transformer")
    state = copy.deepcopy(model.state_dict())
    estimate_batchnorm(model, [images()])
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


@every_net
@pytest.mark.parametrize("batchnorm", [False, True])
def test_bias_correction_leaves_no_mean_error_where_there_is_a_bias(
    name: str, batchnorm: bool
) -> None:
    reference, model, x = net(name), rounded(name), images()
    before = outputs(model, x)
    wanted = outputs(reference, x)
    paired_forward(reference, model, [x], nothing, batchnorm=batchnorm, bias=True)
    after = outputs(model, x)
    corrected = [n for n, m in compressible(model) if n in wanted and m.bias is not None]
    assert corrected
    for layer in corrected:
        axis = 1 if wanted[layer].ndim == 4 else -1
        spread = float(wanted[layer].std())
        axes = [d for d in range(wanted[layer].ndim) if d != axis % wanted[layer].ndim]
        left = (after[layer] - wanted[layer]).mean(axes).abs().max()
        was = (before[layer] - wanted[layer]).mean(axes).abs().max()
        # statistics of the images are not quite those used afterwards (n for n - 1)
        assert float(left) < (5e-3 if batchnorm else 1e-4) * spread, layer
        assert float(left) < float(was)


def test_a_biasless_layer_gets_none() -> None:
    model = rounded("convolutional")
    paired_forward(net("convolutional"), model, [images()], nothing, bias=True)
    assert [n for n, m in compressible(model) if m.bias is None] == ["0.0", "4.0"]


def test_same_structure_sees_shapes_and_names() -> None:
    assert same_structure(net("convolutional"), rounded("convolutional"))
    assert not same_structure(net("convolutional"), net("transformer"))
    assert not same_structure(nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 4)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "densenet121", "convnext_tiny"])
def test_branching_architectures_walk_to_the_same_answers(name: str) -> None:
    torch.manual_seed(0)
    model = tv.get_model(name, weights=None, num_classes=4).eval()
    reference = copy.deepcopy(model)
    for _, module in compressible(model):
        parametrize_weight(module, None, minmax(weight_of(module), 4, True, True))
    x = images()[:4]
    theirs, ours = inputs(reference, x), inputs(model, x)

    def visit(meeting: LayerPair) -> None:
        for got, alone in (
            (together(meeting.reference_inputs), theirs),
            (together(meeting.inputs), ours),
        ):
            expected = alone[meeting.name]
            assert torch.allclose(got, expected, atol=1e-3 * float(expected.abs().max()))

    paired_forward(reference, model, [x], visit)


@every_net
@pytest.mark.parametrize("size", [1, 7])
def test_many_batches_are_as_one(name: str, size: int) -> None:
    x, made = images(), []
    for batches in ([x], list(x.split(size))):
        model = rounded(name)
        seen: dict[str, Tensor] = {}

        def visit(meeting: LayerPair, seen: dict[str, Tensor] = seen) -> None:
            seen[meeting.name] = together(meeting.inputs)
            put_weight(meeting.module, 0.9 * weight_of(meeting.module))

        paired_forward(net(name), model, batches, visit, batchnorm=True, bias=True)
        made.append((seen, model.state_dict()))
    for one, many in zip(*made, strict=True):
        assert list(one) == list(many)
        for key, value in one.items():
            scale = 1 + float(value.abs().max())
            assert torch.allclose(value.float(), many[key].float(), atol=1e-4 * scale), key


def test_batches_join_where_activations_have_become_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers that they join late are not visited again, and what was changed holds for them."""
    reference, x = net("convolutional"), images()
    example = activation_memory(reference, x[:1]).from_here
    last, *_, first = example.values()
    assert last < first
    monkeypatch.setattr(module_of_memory, "WAITING_BYTES", 2 * 5 * first)
    model, counts = rounded("convolutional"), dict[str, int]()

    def visit(meeting: LayerPair) -> None:
        assert meeting.name not in counts
        counts[meeting.name] = len(together(meeting.inputs))
        put_weight(meeting.module, 0.9 * weight_of(meeting.module))

    paired_forward(reference, model, list(x.split(5)), visit, batchnorm=True, bias=True)
    present = list(counts.values())
    assert present == sorted(present) and present[0] == 5 < present[-1]
    reached = inputs(model, x[: present[-1]])
    again = dict[str, Tensor]()
    paired_forward(
        model, copy.deepcopy(model), list(x.split(5)),
        lambda meeting: again.__setitem__(meeting.name, together(meeting.inputs)),
    )  # fmt: skip
    for name, value in again.items():
        assert torch.allclose(value, reached[name][: len(value)], atol=1e-4)
