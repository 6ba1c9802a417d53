"""A prefix comes back from memory and from disk as it was: widths, masks, grids and notes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from compression.methods import step_cache
from compression.methods.quantize.weight_ranges import mse
from compression.methods.step_cache import CompressedModel
from compression.models.input_quantizers import input_grids, parametrize_inputs
from compression.models.load import build
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    grid_of,
    mask_of,
    parametrize_weight,
    weight_of,
)
from compression.models.widths import widths
from tests.compression.tiny import remove_channels

NAME = "mobilenet_v3_small"
IMAGE = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path))
    step_cache._memory.clear()
    return tmp_path


def _blank() -> nn.Module:
    torch.manual_seed(0)
    return build(NAME, 10)


@pytest.fixture
def held() -> nn.Module:
    """Fewer channels, then masks, grids and inputs on grids."""
    model = _blank().to(memory_format=torch.channels_last)
    remove_channels(model, architecture=NAME, example=IMAGE, sparsity=0.4)
    for at, (name, layer) in enumerate(compressible(model)):
        weight = weight_of(layer)
        parametrize_weight(layer, weight.abs() > weight.abs().median() if at % 2 else None, None)
        if at % 3:
            parametrize_weight(layer, None, mse(weight_of(layer), 4, True, True))
        if weight.ndim == 4 and at % 4:
            zero = torch.full((1, 1, 1, 1), at, dtype=torch.int16)
            parametrize_inputs(
                model, {name: QuantizationGrid(torch.full((1, 1, 1, 1), 0.1), zero, 0, 255)}
            )
    return model


def _assert_alike(a: nn.Module, b: nn.Module) -> None:
    assert widths(a) == widths(b)
    left, right = a.state_dict(), b.state_dict()
    assert list(left) == list(right)
    assert all(torch.equal(left[k], right[k]) for k in left)
    assert input_grids(a).keys() == input_grids(b).keys()
    for (_, one), (_, other) in zip(compressible(a), compressible(b), strict=True):
        for part_of in (mask_of, grid_of):
            assert (part_of(one) is None) == (part_of(other) is None)
    with torch.no_grad():
        assert torch.equal(a(IMAGE), b(IMAGE))


@pytest.mark.slow
@pytest.mark.parametrize("from_disk", [False, True])
def test_it_comes_back_as_it_was(held: nn.Module, from_disk: bool) -> None:
    step_cache.put("key", CompressedModel(held, ("a note",)), seconds=60)
    if from_disk:
        step_cache._memory.clear()
    found = step_cache.get("key", _blank())
    assert found is not None and found.notes == ("a note",)
    _assert_alike(held, found.model)


@pytest.mark.slow
def test_a_file_of_another_architecture_is_computed_again(held: nn.Module, own_cache: Path) -> None:
    step_cache.put("key", CompressedModel(held, ()), seconds=60)
    step_cache._memory.clear()
    assert step_cache.get("key", build("squeezenet1_1", 10)) is None
    assert not list((own_cache / "prefixes").iterdir())
