"""The file that ships a compressed model: small, checked, safe to load.

A safetensors file with one tensor of bytes: the length of the index and of the coded words (two
little-endian 32-bit numbers), the index (deflated), the words, the raw bytes, and a BLAKE2b digest
of every byte of the file before it. Nothing in it is ever executed, and no array is made that the
architecture does not ask for.

Version 2 starts its index with how many channels each layer has fewer than the architecture, and
with the grids of the layers' inputs; a model with neither is written as version 1. Version 3 starts
as version 2 and codes weights with what is known around them; it is written where it is smaller.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compression.errors import ArtifactError, CompressionError, InvalidInput
from compression.export.packed.format_v2 import assemble, dissect, read_plan
from compression.export.packed.format_v3 import read, write
from compression.export.packed.header import (
    DIGEST_BYTES,
    LENGTHS,
    MAX_CLASSES,
    VERSION,
    Header,
    digest,
    read_header,
    write_header,
)
from compression.export.packed.input_grids import (
    input_grids_of,
    input_state,
    read_inputs,
    write_inputs,
)
from compression.export.packed.order0_coder import (
    Coded,
    Decoder,
    encode,
    entropy_bytes,
    next_varint,
    read_numbers,
    write_numbers,
)
from compression.models.input_quantizers import input_grids, parametrize_inputs
from compression.models.load import skeleton
from compression.models.parametrize import materialize
from compression.models.widths import resize, runs, widths
from compression.paths import write_whole

_MAX_FILE = 1 << 33
# No byte stands for more weights than this, so that a small file cannot ask for much memory. The
# coder takes next to nothing for what is all the same: the writer fills up the file of a model of
# almost nothing but zeros. What is left when 99.99 % of a VGG-16 is zero is 5,000 weights a byte.
_WEIGHTS_PER_BYTE = 1 << 14


def pack(
    model: nn.Module,
    *,
    architecture: str,
    classes: int,
    details: Mapping[str, Any],
    newest: int = VERSION,
) -> bytes:
    """A model as the bytes of a file that loads back bit for bit. The same model, the same bytes.

    Args:
        model: of a torchvision architecture, perhaps with fewer channels, masks and grids.
        architecture: its name in torchvision.
        classes: outputs of its classifier.
        details: what else the file should say of itself (model id, recipe): JSON, at most 64 KiB.
        newest: with 2 the file is one that older readers know, too.

    Raises:
        InvalidInput: the model is not of that architecture, or `details` is not such JSON.
    """
    plain = materialize(model)
    state, inputs = plain.state_dict(), input_grids(model)
    missing = _missing_channels(plain, state, architecture, classes)
    state = {**state, **input_state(inputs)}
    start = [*missing, *write_inputs(plain, inputs)]
    index, arrays = dissect(model, state)
    version, payload = 3, b""
    if newest >= 3:
        coded = write(model, state)
        payload = _payload([*start, *coded.index], coded)
    # Without context no file is below its entropy, so that most often there is no need to try.
    if not payload or sum(map(entropy_bytes, arrays)) < len(payload):
        older, coded = (2 if any(missing) or inputs else 1), encode(arrays)
        without_context = _payload([*(start if older == 2 else []), *index, *coded.index], coded)
        if not payload or len(without_context) <= len(payload):
            version, payload = older, without_context
    header = write_header(
        version,
        architecture,
        classes,
        details,
        payload_bytes=len(payload) + DIGEST_BYTES,
        least_file_bytes=_least_bytes(state),
    )
    return header + payload + digest(header, payload)


def _payload(index: list[int], coded: Coded) -> bytes:
    table = zlib.compress(write_numbers(index), 9)
    return LENGTHS.pack(len(table), len(coded.words)) + table + coded.words + coded.raw


def _least_bytes(state: Mapping[str, Tensor]) -> int:
    """Bytes that a file of this state dict must have."""
    return -(-sum(tensor.numel() for tensor in state.values()) // _WEIGHTS_PER_BYTE)


def unpack(data: bytes) -> nn.Module:
    """The model, float32 on the CPU, in evaluation mode, with ordinary weights.

    What the file claims is held against its size before anything is made of it.

    Raises:
        ArtifactError: the data is not one of our files, is damaged, or is of a newer version.
    """
    header = read_header(data)
    try:
        model = skeleton(header.architecture, header.classes)
        _read_into(model, memoryview(data), header)
    except InvalidInput:
        raise ArtifactError(
            f"the file is of the architecture {str(header.architecture)[:60]!r}, which the "
            "installed torchvision does not have"
        ) from None
    except (ValueError, zlib.error) as error:
        raise ArtifactError(f"the file is damaged: {error}") from None
    return model.eval()


def details(data: bytes) -> dict[str, Any]:
    """What the file says of itself: the `details` given to `pack`.

    Raises:
        ArtifactError: as `unpack`.
    """
    return read_header(data).details


def save(path: Path, data: bytes) -> None:
    """Write packed bytes; afterwards `path` holds all of them, or what it held before.

    Raises:
        CompressionError: it cannot be written.
    """
    try:
        write_whole(path, data)
    except OSError as error:
        raise CompressionError(f"{path} cannot be written: {error.strerror or error}") from None


def load(path: str | os.PathLike[str]) -> nn.Module:
    """The model of a packed file, float32 on the CPU, in evaluation mode.

    Args:
        path: a file that `compression export --format packed` or `pack` has written.

    Returns:
        The module: prepared images float32 [n, c, h, w] in, logits [n, classes] out.

    Raises:
        ArtifactError: the file cannot be read, or as `unpack`.

    Example:
        >>> from compression import load
        >>> from compression.paths import assets_dir
        >>> model = load(assets_dir() / "examples" / "smallest-trained.safetensors")
        >>> model.training
        False
    """
    path = Path(path)
    try:
        if not path.is_file() or path.stat().st_size > _MAX_FILE:
            raise ArtifactError(f"{path}: not a file of a compressed model")
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return unpack(data)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def _missing_channels(
    model: nn.Module, state: Mapping[str, Tensor], architecture: str, classes: int
) -> list[int]:
    """How much narrower each width is than the architecture's; all else must be the same."""
    if not 1 <= classes <= MAX_CLASSES:
        raise InvalidInput("classes", classes, f"from 1 to {MAX_CLASSES}")
    stock = skeleton(architecture, classes)
    full, narrowed = widths(stock), widths(model)
    if narrowed != full:
        # How a model of another architecture differs is said below, layer by layer.
        with suppress(ValueError):
            resize(stock, narrowed)
    expected = stock.state_dict()
    for name in [*expected, *state]:
        want, have = _describe(expected.get(name)), _describe(state.get(name))
        if want != have:
            allowed = f"{want}, as {architecture} with {classes} classes has"
            raise InvalidInput("model", f"{name}: {have}", allowed)
    if list(expected) != list(state):
        raise InvalidInput("model", "other order of layers", f"the order in {architecture}")
    if narrowed != full and not runs(stock, classes):
        raise InvalidInput("model", "other widths", f"what runs, with {classes} classes")
    return [f - n for f, n in zip(full, narrowed, strict=True)]


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "nothing"
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _read_into(model: nn.Module, data: memoryview, header: Header) -> None:
    """Give a model on the meta device the file's widths, weights and grids of inputs."""
    payload = data[header.payload_start : -DIGEST_BYTES]
    index, words, raw = _read_parts(payload, len(model.state_dict()))
    inputs = {}
    if header.version >= 2:
        _read_widths(index, model, header.classes)
        inputs = read_inputs(index, model)
    weights = model.state_dict()
    like = {**weights, **input_state(inputs)}
    if len(data) < _least_bytes(like):
        raise ValueError(f"{len(data)} bytes cannot hold the weights of {header.architecture}")
    if header.version >= 3:
        state = read(index, words, raw, like)
    else:
        state = assemble(read_plan(index, like), Decoder(index, words, raw), like)
    model.load_state_dict({name: state[name] for name in weights}, assign=True)
    parametrize_inputs(model, input_grids_of(inputs, state))


def _read_widths(index: Iterator[int], model: nn.Module, classes: int) -> None:
    full = widths(model)
    narrowed = [width - next_varint(index) for width in full]
    resize(model, narrowed)
    if narrowed != list(full) and not runs(model, classes):
        raise ValueError("its layers do not fit each other")


def _read_parts(payload: memoryview, tensors: int) -> tuple[Iterator[int], bytes, bytes]:
    """The numbers of the index, the coded words and the raw bytes."""
    index_bytes, words_bytes = LENGTHS.unpack_from(payload)
    at = LENGTHS.size
    if at + index_bytes + words_bytes > len(payload):
        raise ValueError("its parts are longer than the file")
    inflater = zlib.decompressobj()
    index = inflater.decompress(payload[at : at + index_bytes], 4096 * (tensors + 16))
    if not inflater.eof:
        raise ValueError("the index is too long")
    at += index_bytes
    words, raw = payload[at : at + words_bytes], payload[at + words_bytes :]
    return read_numbers(index), bytes(words), bytes(raw)
