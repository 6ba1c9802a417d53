"""The file of a compressed model loads back bit for bit, and is refused when anything is wrong."""

import errno
import hashlib
import json
import os
import random
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save
from torch import Tensor, nn

from compression.errors import ArtifactError, CompressionError, InvalidInput
from compression.export.packed.file import (
    details,
    load,
    pack,
    unpack,
)
from compression.export.packed.file import save as save_artifact
from compression.export.packed.header import VERSION
from compression.export.packed.order0_coder import read_numbers, write_numbers
from compression.measure.size import measure_sizes
from compression.methods.quantize.weight_ranges import minmax, mse
from compression.models.input_quantizers import input_grids, parametrize_inputs
from compression.models.load import build, load_model, skeleton
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    materialize,
    parametrize_weight,
    weight_of,
)
from compression.models.widths import resize, widths
from tests.compression.tiny import remove_channels

SMALL = ("squeezenet1_1", "shufflenet_v2_x0_5")  # with and without batch norm


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _grid(weight: Tensor, bits: int, affine: bool, per_channel: bool) -> QuantizationGrid:
    shape = (weight.shape[0] if per_channel else 1,) + (1,) * (weight.ndim - 1)
    step = (0.2 + torch.rand(shape)) * weight.std() / 2 ** (bits - 1) * 4
    high = 2**bits - 1 if affine else 2 ** (bits - 1) - 1
    zero = torch.randint(0, high + 1, shape) if affine else torch.zeros(shape)
    return QuantizationGrid(step, zero.to(torch.int16), 0 if affine else -high, high)


def _model(name: str, seed: int = 0) -> nn.Module:
    """Stock architecture with batch norm as after training: nothing is all ones or zeros."""
    torch.manual_seed(seed)
    model = build(name, 10)
    for key, value in model.state_dict().items():
        if value.ndim == 1 and value.is_floating_point():
            value.add_(torch.rand_like(value))
        elif key.endswith("num_batches_tracked"):
            value.fill_(70_000 + seed)
    return model


def _pack(module: nn.Module, name: str, newest: int = VERSION, **extra: Any) -> bytes:
    return pack(module, architecture=name, classes=10, details=extra, newest=newest)


def _version(data: bytes) -> int:
    return int(_parts(data)[0]["__metadata__"]["format"].partition("/")[2])


def _assert_same(model: nn.Module, loaded: nn.Module) -> None:
    """Equal names, bits and memory layout; so also equal predictions."""
    twin = materialize(model).eval()
    expected, found = twin.state_dict(), loaded.state_dict()
    assert list(expected) == list(found)
    for name, tensor in expected.items():
        other = found[name]
        assert tensor.dtype == other.dtype and tensor.shape == other.shape, name
        raw = [t.contiguous().flatten().view(torch.uint8) for t in (tensor, other)]
        assert torch.equal(*raw), name
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for x in (images, images.contiguous(memory_format=torch.channels_last)):
            assert torch.equal(twin(x), loaded(x))


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(SMALL),
    seed=st.integers(0, 10_000),
    channels_last=st.booleans(),
    half=st.booleans(),
    choices=st.lists(
        st.tuples(
            st.sampled_from([None, 0.0, 0.5, 0.9, 1.0]),
            st.one_of(st.none(), st.tuples(st.integers(2, 8), st.booleans(), st.booleans())),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_any_mixture_loads_back_bit_for_bit(
    name: str, seed: int, channels_last: bool, half: bool, choices: list[Any]
) -> None:
    model = _model(name, seed)
    if half:
        model = model.half().float()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    for i, (_, layer) in enumerate(compressible(model)):
        sparsity, quantize = choices[i % len(choices)]
        weight = weight_of(layer)
        mask = None if sparsity is None else torch.rand_like(weight) >= sparsity
        parametrize_weight(layer, mask, _grid(weight, *quantize) if quantize else None)
    data = _pack(model, name)
    assert data == _pack(model, name)
    loaded = unpack(data)
    _assert_same(model, loaded)
    older = _pack(model, name, newest=2)
    assert _version(older) == 1 and len(data) <= len(older)
    _assert_same(model, unpack(older))
    assert not loaded.training and all(p.requires_grad for p in loaded.parameters())
    assert _pack(materialize(model), name)  # without its grids, too


@pytest.mark.slow
@pytest.mark.parametrize("affine", [False, True])
def test_every_bit_width(affine: bool) -> None:
    """Of 26 layers, each width has some with a grid per channel and some with one per tensor."""
    model, most = _model("squeezenet1_1"), 0.0
    for i, (_, layer) in enumerate(compressible(model)):
        weight, bits = weight_of(layer), 2 + i % 7
        parametrize_weight(layer, None, minmax(weight, bits, not affine, i % 2 == 0))
        most += weight.numel() * bits / 8
    data = _pack(model, "squeezenet1_1")
    _assert_same(model, unpack(data))
    assert len(data) < most * 1.02 + 20_000


@pytest.mark.slow
def test_odd_numbers_survive() -> None:
    model = _model("squeezenet1_1")
    first = next(model.parameters())
    odd = [-0.0, 0.0, float("nan"), float("inf"), -float("inf"), 1e-45, 65504.0, 65520.0, 3e38]
    with torch.no_grad():
        first.view(-1)[: len(odd)] = torch.tensor(odd)
    loaded = unpack(_pack(model, "squeezenet1_1"))
    found = next(loaded.parameters())
    assert torch.equal(first.view(torch.int32), found.view(torch.int32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_t", "googlenet", "inception_v3", "regnet_y_400mf"])
def test_architectures_with_peculiar_state(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, 10)
    with torch.no_grad():  # zeros are coded at once, and it is not their numbers that are peculiar
        for parameter in model.parameters():
            parameter.view(-1)[1000:] = 0
    random_state = torch.get_rng_state()
    data = _pack(model, name)
    assert torch.equal(random_state, torch.get_rng_state())
    expected, found = model.state_dict(), unpack(data).state_dict()
    assert list(expected) == list(found)
    assert all(torch.equal(expected[k], found[k]) for k in expected)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """The bundled ResNet-18, 80 % sparse, 4 bits, batch norm in full precision."""
    model = load_model("fashion-mnist/resnet18")
    for _, layer in compressible(model):
        size = weight_of(layer).abs()
        parametrize_weight(
            layer, size > size.flatten().kthvalue(int(0.8 * size.numel())).values, None
        )
        parametrize_weight(layer, None, mse(weight_of(layer), 4, True, True))
    for key, value in model.state_dict().items():
        if "running" in key:
            value.mul_(1.0001)
    return model


@pytest.mark.slow
def test_a_quantized_resnet_is_below_its_bound_and_far_below_dense(resnet: nn.Module) -> None:
    data = _pack(resnet, "resnet18", model="fashion-mnist/resnet18")
    older = _pack(resnet, "resnet18", newest=2)
    sizes = measure_sizes(resnet, data, original_parameters=11_000_000)
    bound = sizes.entropy_bound_bytes
    assert _version(data) == 3 and len(data) < 0.9 * bound
    assert _version(older) == 1 and bound <= len(older) <= 1.005 * bound + 1000
    assert sizes.dense_bytes > 20 * len(data)
    assert sizes.sparsity >= 0.8
    _assert_same(resnet, unpack(data))


@pytest.fixture(scope="module")
def both() -> dict[int, bytes]:
    """A sparse model in 3 bits, by the version of the file: the newest, and one without context."""
    model = _model("shufflenet_v2_x0_5")
    for _, layer in compressible(model):
        weight = weight_of(layer)
        parametrize_weight(layer, torch.rand_like(weight) > 0.8, _grid(weight, 3, True, True))
    files = (_pack(model, "shufflenet_v2_x0_5", n, model="a", steps=[1]) for n in (2, 3))
    return {_version(data): data for data in files}


@pytest.fixture(scope="module")
def packed(both: dict[int, bytes]) -> bytes:
    assert both.keys() == {1, 3}
    return both[3]


@pytest.mark.slow
def test_it_is_a_safetensors_file_and_says_what_it_is(packed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_artifact(path, packed)
    assert path.read_bytes() == packed and os.listdir(tmp_path) == [path.name]
    assert list(load_file(path)) == ["payload"]
    assert details(packed) == {"model": "a", "steps": [1]}
    assert torch.equal(
        load(path)(torch.ones(1, 3, 32, 32)), unpack(packed)(torch.ones(1, 3, 32, 32))
    )


def _refused(data: bytes) -> str:
    with pytest.raises(ArtifactError) as caught:
        unpack(data)
    text = str(caught.value)
    assert text and "\n" not in text
    return text


def test_a_flipped_bit_anywhere_is_found(packed: bytes) -> None:
    header = 8 + struct.unpack_from("<Q", packed)[0]
    rng = random.Random(0)
    places = [*range(header + 40), *range(len(packed) - 40, len(packed))]
    places += rng.sample(range(header, len(packed)), 400)
    for at in places:
        broken = bytearray(packed)
        broken[at] ^= 1 << rng.randrange(8)
        _refused(bytes(broken))


def test_a_cut_or_longer_file_is_refused(both: dict[int, bytes]) -> None:
    for data in both.values():
        for percent in range(100):
            _refused(data[: len(data) * percent // 100])
    packed = both[3]
    for cut in range(1, 40):
        _refused(packed[:-cut])
    _refused(packed + b"\0")


def _seal(header: dict[str, Any] | bytes, payload: bytes) -> bytes:
    """A file with a right checksum, whatever it holds."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = struct.pack("<Q", len(text)) + text + payload
    return body + hashlib.blake2b(body, digest_size=16).digest()


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack_from("<Q", data)[0]
    return json.loads(data[8 : 8 + size]), data[8 + size : -16]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("format", "compression-dashboard/4", "version 4"),
        ("format", "else/1", "not a file"),
        ("architecture", "resnet19", "resnet19"),
        ("architecture", "resnet18", "damaged"),
        ("classes", "0", "classes"),
        ("classes", "999999999999", "classes"),
        ("classes", "many", "not a file"),
        ("classes", "11", "damaged"),
        ("details", "[1]", "details"),
        ("details", "[" * 100_000, "not a file"),
        ("details", 7, "not a file"),
    ],
)
def test_false_claims_are_refused(packed: bytes, field: str, value: Any, says: str) -> None:
    header, payload = _parts(packed)
    header["__metadata__"][field] = value
    assert says in _refused(_seal(header, payload))


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"__metadata__": 1}',
        b'{"__metadata__": {"format": "compression-dashboard/1"}}',
        b'{"__metadata__": {"format": "compression-dashboard/1"}, "payload": {"data_offsets": 1}}',
    ],
)
def test_foreign_headers_are_refused(header: bytes) -> None:
    _refused(_seal(header, b"x" * 100))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    state = build("squeezenet1_1", 10).state_dict()
    torch.save(state, tmp_path / "pickle")
    foreign = [b"", b"\0" * 8, b"\0" * 1000, b"PK\x03\x04" * 100, random.Random(0).randbytes(5000)]
    for data in [*foreign, save(state), (tmp_path / "pickle").read_bytes()]:
        _refused(data)
    for path in (tmp_path / "none", tmp_path, Path("/dev/zero"), tmp_path / "pickle"):
        with pytest.raises(ArtifactError, match=path.name):
            load(path)


def test_terabytes_are_refused_without_making_room(packed: bytes) -> None:
    header, payload = _parts(packed)
    claims = [struct.pack("<Q", 1 << 40) + b"{}" * 20, struct.pack("<Q", 1 << 63) + b"{}" * 20]
    header["payload"] = {"dtype": "U8", "shape": [1 << 42], "data_offsets": [0, 1 << 42]}
    claims.append(_seal(header, payload))
    header, _ = _parts(packed)
    claims.append(_seal(header, struct.pack("<II", 2**32 - 1, 2**32 - 1) + payload[8:]))
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for claim in claims:
        _refused(claim)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20 and grown < 200 << 10  # bytes, KiB


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 3])
def test_crafted_contents_never_raise_anything_else(both: dict[int, bytes], version: int) -> None:
    """The checksum is right, the contents are not: refused, or a model of the right shape."""
    header, payload = _parts(both[version])
    index, words = struct.unpack_from("<II", payload)
    numbers = zlib.decompress(payload[8 : 8 + index])
    rng = random.Random(0)
    like = skeleton("shufflenet_v2_x0_5", 10).state_dict()
    for _ in range(12):
        broken, rest = bytearray(numbers), bytearray(payload[8 + index :])
        where = rng.choice([broken, rest, broken])
        for _ in range(rng.choice([1, 3, 30])):
            where[rng.randrange(len(where))] = rng.randrange(256)
        if rng.random() < 0.2:
            del broken[rng.randrange(len(broken)) :]
        table = zlib.compress(bytes(broken))
        body = struct.pack("<II", len(table), words) + table + bytes(rest)
        header["payload"]["data_offsets"] = [0, len(body) + 16]
        try:
            found = unpack(_seal(header, body)).state_dict()
        except ArtifactError:
            continue
        assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in like.items()}


@pytest.mark.slow
def test_an_index_that_inflates_without_end_is_refused(packed: bytes) -> None:
    header, _ = _parts(packed)
    bomb = zlib.compress(b"\0" * (200 << 20), 9)
    body = struct.pack("<II", len(bomb), 0) + bomb
    header["payload"]["data_offsets"] = [0, len(body) + 16]
    tracemalloc.start()
    _refused(_seal(header, body))
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "name", "classes", "extra", "says"),
    [
        ("squeezenet1_1", "shufflenet_v2_x0_5", 10, {}, "model"),
        ("squeezenet1_1", "squeezenet1_1", 11, {}, "classes"),
        ("squeezenet1_1", "squeezenet1_1", 0, {}, "classes"),
        ("squeezenet1_1", "nothing", 10, {}, "architecture"),
        ("squeezenet1_1", "squeezenet1_1", 10, {"x": object()}, "details"),
        ("squeezenet1_1", "squeezenet1_1", 10, {"x": float("nan")}, "details"),
        ("squeezenet1_1", "squeezenet1_1", 10, {"x": "y" * 70_000}, "details"),
    ],
)
def test_what_cannot_be_packed(
    model: str, name: str, classes: int, extra: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        pack(build(model, 10), architecture=name, classes=classes, details=extra)


def test_half_precision_modules_are_refused() -> None:
    with pytest.raises(InvalidInput, match="float16"):
        _pack(build("squeezenet1_1", 10).half(), "squeezenet1_1")


def test_a_failed_write_leaves_what_was_there(
    packed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CompressionError, match="No space left"):
        save_artifact(path, packed)
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["model"]
    with pytest.raises(CompressionError, match="cannot be written"):
        save_artifact(tmp_path / "none" / "model", packed)


# Version 2: fewer channels, and inputs on grids


NARROW = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def narrow() -> nn.Module:
    """Half the channels of a small model, inputs in 8 bits."""
    model = _model(NARROW)
    remove_channels(model, architecture=NARROW, example=torch.ones(1, 3, 64, 64), sparsity=0.5)
    scales = {
        name: 0.02 + torch.rand(1, 1, 1, 1) if weight_of(layer).ndim == 4 else torch.tensor([[0.1]])
        for name, layer in compressible(model)
    }
    grids = {
        name: QuantizationGrid(scale, torch.full_like(scale, 3).to(torch.int16), 0, 255)
        for name, scale in scales.items()
    }
    parametrize_inputs(model, grids)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 3])
def test_fewer_channels_and_inputs_on_grids_load_back(narrow: nn.Module, version: int) -> None:
    data = _pack(narrow, NARROW, newest=version)
    assert _version(data) == version
    loaded = unpack(data)
    _assert_same(narrow, loaded)
    expected, found = input_grids(narrow), input_grids(loaded)
    assert expected.keys() == found.keys()
    for name, grid in expected.items():
        assert torch.equal(grid.scale, found[name].scale)
        assert torch.equal(grid.zero_point, found[name].zero_point)
        assert (grid.low, grid.high) == (found[name].low, found[name].high)
    assert _pack(loaded, NARROW, newest=version) == data


@pytest.mark.slow
def test_a_scale_for_every_input_channel_loads_back() -> None:
    model = _model("mobilenet_v3_small")
    grids = {
        name: QuantizationGrid(
            0.01 + torch.rand(1, layer.in_channels, 1, 1),
            torch.randint(0, 15, (1, layer.in_channels, 1, 1), dtype=torch.int16),
            0,
            15,
        )
        for name, layer in compressible(model)
        if isinstance(layer, nn.Conv2d) and layer.groups > 1
    }
    parametrize_inputs(model, grids)
    loaded = unpack(_pack(model, "mobilenet_v3_small"))
    _assert_same(model, loaded)
    assert input_grids(loaded).keys() == grids.keys()


def test_a_model_that_gains_nothing_is_still_written_as_version_1() -> None:
    model = _model("squeezenet1_1")
    for parameter in model.parameters():  # bytes without any pattern
        bits = torch.randint(-(2**31), 2**31, parameter.shape, dtype=torch.int64)
        parameter.data = bits.to(torch.int32).view(torch.float32)
    assert _version(_pack(model, "squeezenet1_1")) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "state"),
    [(1, "5eb7d8650f91a434"), (2, "4de31dde76d40d76"), (3, "4de31dde76d40d76")],
)
def test_files_of_every_version_written_before_load_bit_for_bit(version: int, state: str) -> None:
    """Masked weights in 2 to 4 bits; from version 2 on also fewer channels and 8-bit inputs."""
    data = (Path(__file__).parent / "files" / f"version{version}.safetensors").read_bytes()
    assert _version(data) == version and details(data) == {"version": version}
    digest = hashlib.sha256()
    for name, tensor in unpack(data).state_dict().items():
        digest.update(name.encode() + str(tensor.shape).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    assert digest.hexdigest()[:16] == state


def _with_index(data: bytes, change: Callable[[list[int]], list[int]]) -> bytes:
    """The file with other numbers in its index, and a right checksum."""
    header, payload = _parts(data)
    index, words = struct.unpack_from("<II", payload)
    numbers = change(list(read_numbers(zlib.decompress(payload[8 : 8 + index]))))
    table = zlib.compress(write_numbers(numbers))
    body = struct.pack("<II", len(table), words) + table + payload[8 + index :]
    header["payload"]["data_offsets"] = [0, len(body) + 16]
    return _seal(header, body)


@pytest.mark.slow
def test_hostile_widths_are_refused(narrow: nn.Module) -> None:
    data = _pack(narrow, NARROW)
    _assert_same(narrow, unpack(_with_index(data, lambda numbers: numbers)))
    for at, flip in zip(range(0, len(widths(narrow)), 4), cycle((1, 1 << 12, 1 << 40))):

        def change(numbers: list[int], at: int = at, flip: int = flip) -> list[int]:
            numbers[at] ^= flip
            return numbers

        assert "damaged" in _refused(_with_index(data, change))


@pytest.mark.slow
def test_hostile_grids_of_inputs_are_refused(narrow: nn.Module) -> None:
    data = _pack(narrow, NARROW)
    at = len(widths(skeleton(NARROW, 10)))
    stored = [4, 0, 0, 256]
    for hostile in (
        [9, 0, 0, 256],
        [1 << 40, 0, 0, 256],
        [4, 3, 0, 256],
        [4, 16, 0, 256],
        [4, 0, 1 << 20, 256],
        [4, 0, 0, 257],
        [4, 0, 0, 0],
        [4, 0, 0, 2],
    ):

        def change(numbers: list[int], new: list[int] = hostile) -> list[int]:
            assert numbers[at : at + 4] == stored
            return [*numbers[:at], *new, *numbers[at + 4 :]]

        assert "damaged" in _refused(_with_index(data, change))


@pytest.mark.slow
def test_crafted_narrow_contents_never_raise_anything_else(narrow: nn.Module) -> None:
    data = _pack(narrow, NARROW)
    rng = random.Random(0)
    full = skeleton(NARROW, 10).state_dict()
    for _ in range(15):

        def change(numbers: list[int]) -> list[int]:
            for _ in range(rng.choice([1, 3])):
                numbers[rng.randrange(len(numbers))] = rng.choice([0, 1, 7, 255, 1 << 35])
            return numbers

        try:
            found = unpack(_with_index(data, change)).state_dict()
        except ArtifactError:
            continue
        for name, tensor in found.items():
            assert all(n <= m for n, m in zip(tensor.shape, full[name].shape, strict=True))


def test_widths_that_do_not_fit_each_other_are_not_packed(narrow: nn.Module) -> None:
    model = build(NARROW, 10)
    own = list(widths(model))
    own[0] = 8
    resize(model, own)
    with pytest.raises(InvalidInput, match="widths"):
        _pack(model, NARROW)
