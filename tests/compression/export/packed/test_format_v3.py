"""Any small model is coded and read back bit for bit, and no crafted stream does harm."""

import hashlib
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import constriction
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compression.export.packed.context_coder import Layer, Values, code
from compression.export.packed.context_model import (
    Shape,
    log_bins,
    middle,
    phases,
)
from compression.export.packed.format_v2 import dissect
from compression.export.packed.format_v3 import read, write
from compression.export.packed.order0_coder import Coded, entropy_bytes, write_numbers
from compression.export.packed.symbol_coder import Reader, Writer
from compression.models.parametrize import (
    QuantizationGrid,
    materialize,
    parametrize_weight,
    weight_of,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@st.composite
def layers(draw: Callable[..., Any]) -> nn.Module:
    """A small layer, perhaps sparse, perhaps quantized, with numbers of any kind beside."""
    torch.manual_seed(draw(st.integers(0, 1 << 30)))
    dimensions = draw(st.integers(0, 3))
    outputs, inputs = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    if dimensions == 0:
        layer: nn.Module = nn.Linear(inputs, outputs)
    else:
        groups = draw(st.sampled_from([1, outputs]))
        inputs = outputs if groups > 1 else inputs
        kernel = draw(st.integers(1, 4))
        layer = CONVOLUTIONS[dimensions](inputs, outputs, kernel, groups=groups)
    weight = weight_of(layer)
    sparsity = draw(st.sampled_from([None, 0.0, 0.5, 0.95, 1.0]))
    mask = None if sparsity is None else torch.rand_like(weight) >= sparsity
    parametrize_weight(layer, mask, draw(st.none() | grids(weight)))
    return layer


@st.composite
def grids(draw: Callable[..., Any], weight: Tensor) -> QuantizationGrid:
    bits, affine = draw(st.integers(2, 8)), draw(st.booleans())
    shape = (weight.shape[0] if draw(st.booleans()) else 1,) + (1,) * (weight.ndim - 1)
    high = 2**bits - 1 if affine else 2 ** (bits - 1) - 1
    zero = torch.randint(0, high + 1, shape) if affine else torch.zeros(shape)
    scale = (0.1 + torch.rand(shape)) / 2**bits
    if draw(st.booleans()):
        scale = scale.half().float()
    return QuantizationGrid(scale, zero.to(torch.int16), 0 if affine else -high, high)


def _numbers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in materialize(model).state_dict().items():
        yield name, torch.empty_like(tensor, device="meta")


def _read(coded: Coded, model: nn.Module) -> dict[str, Tensor]:
    return read(iter(coded.index), coded.words, coded.raw, dict(_numbers(model)))


ODD = [0.0, -0.0, float("nan"), float("inf"), 1e-45, -1e-39, 65504.0, 65520.0, 6e-8, -3e38, 1.0]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(parts=st.lists(layers(), min_size=1, max_size=4), odd=st.lists(st.sampled_from(ODD)))
def test_any_small_model_comes_back_bit_for_bit(parts: list[nn.Module], odd: list[float]) -> None:
    model = nn.Sequential(*parts, nn.BatchNorm2d(max(len(odd), 1)))
    norm = model[-1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    norm.running_mean[: len(odd)] = torch.tensor(odd)
    state = materialize(model).state_dict()
    coded = write(model, state)
    assert coded == write(model, state)
    found = _read(coded, model)
    assert list(found) == list(state)
    for name, tensor in state.items():
        other = found[name]
        assert other.dtype == tensor.dtype and other.shape == tensor.shape
        raw = [t.contiguous().flatten().view(torch.uint8) for t in (tensor, other)]
        assert torch.equal(*raw), name


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    found = nn.Sequential(nn.Conv2d(8, 24, 3), nn.BatchNorm2d(24), nn.Linear(24, 30))
    for layer in (found[0], found[2]):
        weight = weight_of(layer)
        step = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True) / 7
        grid = QuantizationGrid(step, torch.zeros_like(step, dtype=torch.int16), -7, 7)
        parametrize_weight(layer, torch.rand_like(weight) > 0.7, grid)
    parametrize_weight(found[0], None, None)
    return found


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_crafted_stream_does_harm(model: nn.Module, data: st.DataObject) -> None:
    """It is refused, or read as what the architecture asks for, in little memory."""
    coded = write(model, materialize(model).state_dict())
    index, words, raw = list(coded.index), bytearray(coded.words), bytearray(coded.raw)
    hostile = st.sampled_from([0, 1, 2, 7, 8, 255, 256, 257, 1 << 14, 1 << 33, (1 << 63) - 1])
    for _ in range(data.draw(st.integers(1, 4))):
        match data.draw(st.sampled_from(["index", "words", "raw", "cut"])):
            case "index":
                index[data.draw(st.integers(0, len(index) - 1))] = data.draw(hostile)
            case "cut":
                del index[data.draw(st.integers(1, len(index))) :]
                del words[4 * data.draw(st.integers(0, len(words) // 4)) :]
            case where:
                part = words if where == "words" else raw
                if part:
                    part[data.draw(st.integers(0, len(part) - 1))] = data.draw(st.integers(0, 255))
    wanted = dict(_numbers(model))
    found = wanted
    tracemalloc.start()
    with suppress(ValueError):
        found = read(iter(index), bytes(words), bytes(raw), wanted)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in wanted.items()}
    assert peak < 4 << 20


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 9))
def test_every_weight_is_visited_once(outputs: int, inputs: int, kernel: int) -> None:
    visits = phases(Shape(outputs, inputs, kernel))
    places = np.concatenate([v.places for v in visits])
    assert sorted(places.tolist()) == list(range(outputs * inputs * kernel))
    for visit in visits:
        assert np.array_equal(visit.columns, visit.places % max(inputs * kernel, 1))
        per_row = kernel if kernel > 1 else inputs
        assert np.array_equal(visit.rows, visit.places // max(per_row, 1))


@given(st.lists(st.floats(1e-6, 1e6), min_size=2), st.integers(1, 3))
def test_bins_keep_order_and_their_middle_lies_in_them(values: list[float], steps: int) -> None:
    ordered = np.sort(np.array(values))
    found = log_bins(ordered, steps)
    assert (np.diff(found) >= 0).all()
    for value, number in zip(ordered, found, strict=True):
        assert log_bins(np.array([middle(int(number), steps)]), steps)[0] == number
        assert middle(int(number), steps) == pytest.approx(value, rel=2.0**-steps)


def _guess(layers: Any, values: Any) -> tuple[float, float]:
    return 0.25, 3.0


def _words(layers: list[Layer], values: list[Values]) -> np.ndarray:
    writer, coder = Writer(), constriction.stream.stack.AnsCoder()
    code(layers, [v.copy() for v in values], writer, _guess)
    writer.flush(coder)
    found: np.ndarray = coder.get_compressed()
    return found


def _pattern(shape: Shape, most: int, seed: int) -> Values:
    """Whole numbers made without a library's random numbers: rows and columns of unlike density."""
    places = np.arange(shape.outputs * shape.inputs * shape.kernel, dtype=np.uint64)
    mixed = (places + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    width = np.uint64(shape.inputs * shape.kernel)
    rarity = 2 + places // width % np.uint64(7) + places % width % np.uint64(5)
    values = (mixed % np.uint64(2 * most + 1)).astype(np.int64) - most
    values[mixed // np.uint64(1000) % rarity > 0] = 0
    return values.astype(np.int16)


def test_the_same_weights_give_the_same_bytes_on_every_machine() -> None:
    """What encoder and decoder must agree on is part of the format: this digest never changes."""
    layers = [
        Layer(Shape(40, 30, 9), 8),
        Layer(Shape(64, 100, 1), 8),
        Layer(Shape(50, 1, 9), 128),
        Layer(Shape(16, 20, 4), 2),
    ]
    values = [_pattern(layer.shape, layer.sizes - 1, i) for i, layer in enumerate(layers)]
    layers.append(Layer(Shape(30, 30, 1), 1))
    values.append((_pattern(layers[-1].shape, 3, 9) != 0).astype(np.int16))
    words = _words(layers, values)
    assert hashlib.blake2b(words.astype("<u4").tobytes(), digest_size=8).hexdigest() == GOLDEN
    reader = Reader(constriction.stream.stack.AnsCoder(words))
    found = [np.zeros_like(v) for v in values]
    code(layers, found, reader, _guess)
    assert all(np.array_equal(a, b) for a, b in zip(found, values, strict=True))
    assert reader.coder.is_empty()


GOLDEN = "a255846e4c24f878"


def _length(coded: Coded) -> int:
    return len(coded.words) + len(coded.raw) + len(zlib.compress(write_numbers(coded.index), 9))


def test_unlike_rows_and_columns_bring_it_below_the_order_0_entropy() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3)
    model = nn.Sequential(layer)
    density = torch.rand(64, 1, 1, 1) * torch.rand(1, 64, 1, 1)
    step = torch.full((64, 1, 1, 1), 0.01)
    grid = QuantizationGrid(step, torch.zeros_like(step, dtype=torch.int16), -7, 7)
    parametrize_weight(layer, torch.rand(64, 64, 3, 3) < density, grid)
    state = materialize(model).state_dict()
    coded = write(model, state)
    arrays = dissect(model, state)[1]
    bound = sum(map(entropy_bytes, arrays))
    assert _length(coded) < 0.95 * bound


def test_what_has_no_pattern_costs_next_to_nothing_more() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(200, 300, bias=False)
    model = nn.Sequential(layer)
    step = torch.full((300, 1), 1.0)
    parametrize_weight(
        layer, None, QuantizationGrid(step, torch.zeros_like(step, dtype=torch.int16), -7, 7)
    )
    weight = torch.randint(-7, 8, (300, 200)).float()
    layer.parametrizations["weight"].original.data = weight  # type: ignore
    state = materialize(model).state_dict()
    coded = write(model, state)
    bound = entropy_bytes(dissect(model, state)[1][0])
    assert bound < _length(coded) < 1.01 * bound + 100
