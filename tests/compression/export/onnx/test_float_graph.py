"""A float32 graph answers as PyTorch does, for any batch, and is exported once per structure."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from compression.errors import NotExportable
from compression.export.onnx import float_graph as float_graph_module
from compression.export.onnx.float_graph import fixed_batch, float_graph
from compression.export.onnx.sessions import check, predict_with, session
from compression.methods.quantize.weight_ranges import mse
from compression.models.input_quantizers import parametrize_inputs
from compression.models.load import load_model
from compression.models.parametrize import QuantizationGrid, compressible, parametrize_weight
from tests.compression.architectures import FAMILIES, small
from tests.compression.tiny import images, net, remove_channels

pytestmark = pytest.mark.slow


AGREES = 1e-3
BUNDLED = (
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path))
    return tmp_path


def pictures(n: int) -> Tensor:
    return images()[:n]


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("exported again")


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_models_agree_for_any_batch_and_other_weights_need_no_export(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(f"fashion-mnist/{name}")
    first = float_graph(model, name, pictures(1))
    assert fixed_batch(first) is None
    assert [i.name for i in first.graph.input] == ["images"]
    assert [o.name for o in first.graph.output] == ["logits"]
    for batch in (1, 5):
        assert check(first, model, pictures(batch)) < AGREES
    monkeypatch.setattr(torch.onnx, "export", refuse)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data.mul_(0.9)
    assert check(float_graph(model, name, pictures(2)), model, pictures(3)) < AGREES
    assert check(first, model, pictures(3)) > AGREES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_small_one_of_each_family_agrees_for_any_batch(family: str) -> None:
    model = small(family)
    found = float_graph(model, family, pictures(1))
    assert fixed_batch(found) is None
    for batch in (1, 4):
        assert check(found, model, pictures(batch)) < AGREES
    told = {p.key: p.value for p in found.metadata_props}
    assert int(told["opset"]) == found.opset_import[0].version >= 13
    onnx.checker.check_model(found)


def test_weights_are_what_is_held_and_grids_of_inputs_are_let_go() -> None:
    model = net("convolutional")
    free = copy.deepcopy(model)
    for name, module in compressible(model):
        grid = mse(module.weight.detach(), 3, True, True)
        parametrize_weight(module, None, grid)
        free.get_submodule(name).weight.data = grid.decode(grid.encode(module.weight.detach()))
    whole = QuantizationGrid(
        torch.tensor([[[[0.5]]]]), torch.zeros(1, 1, 1, 1, dtype=torch.int16), 0, 3
    )
    parametrize_inputs(model, {"0.0": whole})
    before = model(pictures(2))
    assert check(float_graph(model, "convolutional", pictures(1)), free, pictures(4)) < AGREES
    assert torch.equal(model(pictures(2)), before)


def _numbers(found: onnx.ModelProto) -> int:
    return sum(math.prod(tensor.dims) for tensor in found.graph.initializer)


def test_fewer_channels_have_a_smaller_graph_of_their_own(own_cache: Path) -> None:
    model, narrow = net("convolutional"), net("convolutional")
    remove_channels(narrow, architecture="net", example=pictures(1), sparsity=0.5, round_to=2)
    full, own = (float_graph(m, "net", pictures(1)) for m in (model, narrow))
    assert len(list((own_cache / "graphs").iterdir())) == 2
    shapes = {t.name: list(t.dims) for t in own.graph.initializer}
    for name, module in compressible(narrow):
        assert shapes[f"{name}.weight"] == list(module.weight.shape)
    assert _numbers(own) < 0.4 * _numbers(full)
    assert check(own, narrow, pictures(3)) < AGREES


def test_only_the_graphs_used_last_are_kept(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(float_graph_module, "MOST_GRAPHS", 2)
    folder = own_cache / "graphs"
    for at, width in enumerate((3, 4, 5)):
        model = nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten()).eval()
        float_graph(model, "net", torch.zeros(1, 3, 4, 4))
        for file in folder.iterdir():
            if file.stat().st_mtime > 10_000:
                os.utime(file, (at, at))
    assert {file.stat().st_mtime for file in folder.iterdir()} == {1, 2}


def test_a_damaged_cache_is_exported_anew(own_cache: Path) -> None:
    model = net("convolutional")
    float_graph(model, "net", pictures(1))
    (file,) = (own_cache / "graphs").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert check(float_graph(model, "net", pictures(1)), model, pictures(2)) < AGREES


class Fixed(nn.Module):
    """Says how many images it takes in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.reshape(2, 3 * 16))  # type: ignore[no-any-return]


def test_a_model_of_one_batch_has_a_graph_of_that_batch() -> None:
    model, given = Fixed().eval(), torch.randn(2, 3, 4, 4)
    found = float_graph(model, "fixed", given)
    assert fixed_batch(found) == 2
    many = torch.randn(5, 3, 4, 4)
    whole = torch.cat([model(part) for part in (many[:2], many[2:4], many[[4, 4]])])[:5]
    assert torch.allclose(predict_with(session(found), many), whole, atol=1e-5)


class Branching(nn.Module):
    """Does other things with other values."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if float(x.sum()) > 0 else -x.flatten(1)


def test_what_cannot_be_exported_or_run_is_refused_in_one_sentence() -> None:
    with pytest.raises(NotExportable, match="the model cannot be exported to ONNX") as error:
        float_graph(Branching(), "branching", torch.ones(1, 3, 4, 4))
    assert "\n" not in str(error.value)
    with pytest.raises(NotExportable, match="does not take images of shape"):
        float_graph(net("transformer"), "vit", torch.ones(1, 3, 20, 20))
    with pytest.raises(NotExportable, match="ONNX Runtime cannot run"):
        session(b"nothing")


def test_neither_the_graph_nor_the_check_changes_the_callers_model() -> None:
    model = net("convolutional").train()
    graph = float_graph(model, "convolutional", pictures(2))
    assert check(graph, model, pictures(2)) <= AGREES
    assert all(module.training for module in model.modules())
