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

import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from compression.errors import ArtifactError, CompressionError, InvalidInput
from compression.export.packed.format_v2 import assemble, dissect, read_plan
from compression.export.packed.format_v3 import read, write
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

VERSION = 3
MAX_CLASSES = 65_536
MAX_DETAILS = 65_536
_FORMAT = "compression-dashboard"
_MAX_HEADER = 1 << 20
_MAX_FILE = 1 << 33
_DIGEST = 16
_LENGTHS = struct.Struct("<II")


@dataclass(frozen=True)
class _Header:
    version: int
    architecture: str
    classes: int
    details: dict[str, Any]
    end: int  # where the payload starts


def pack(
    model: nn.Module,
    *,
    architecture: str,
    classes: int,
    details: Mapping[str, Any],
    newest: int = VERSION,
) -> bytes:
    """A model as the bytes of a file that loads back bit for bit. The same model, the same bytes.

    `details` is what else the file should say of itself (model id, recipe): JSON, at most 64 KiB.
    With `newest` 2 the file is one that older readers know, too.

    Raises:
        InvalidInput: the model is not of that architecture, or `details` is not such JSON.
    """
    twin = materialize(model)
    state, inputs = twin.state_dict(), input_grids(model)
    fewer = _check_fit(twin, state, architecture, classes)
    state = {**state, **input_state(inputs)}
    start = [*fewer, *write_inputs(twin, inputs)]
    index, arrays = dissect(model, state)
    version, payload = 3, b""
    if newest >= 3:
        coded = write(model, state)
        payload = _payload([*start, *coded.index], coded)
    # Without context no file is below its entropy, so that most often there is no need to look.
    if not payload or sum(map(entropy_bytes, arrays)) < len(payload):
        older, coded = (2 if any(fewer) or inputs else 1), encode(arrays)
        other = _payload([*(start if older == 2 else []), *index, *coded.index], coded)
        if not payload or len(other) <= len(payload):
            version, payload = older, other
    header = _write_header(version, architecture, classes, details, len(payload) + _DIGEST)
    return header + payload + _digest(header, payload)


def _payload(index: list[int], coded: Coded) -> bytes:
    table = zlib.compress(write_numbers(index), 9)
    return _LENGTHS.pack(len(table), len(coded.words)) + table + coded.words + coded.raw


def unpack(data: bytes) -> nn.Module:
    """The model, float32 on the CPU, in evaluation mode, with ordinary weights.

    Raises:
        ArtifactError: the data is not one of our files, is damaged, or is of a newer version.
    """
    header = _read_header(data)
    try:
        model = skeleton(header.architecture, header.classes)
        _read_into(model, memoryview(data)[header.end : -_DIGEST], header)
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
    return _read_header(data).details


def save(path: Path, data: bytes) -> None:
    """Write packed bytes; afterwards `path` holds all of them, or what it held before.

    Raises:
        CompressionError: it cannot be written.
    """
    beside = None
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except OSError as error:
        if beside is not None:
            with suppress(OSError):
                os.unlink(beside)
        raise CompressionError(f"{path} cannot be written: {error.strerror or error}") from None


def load(path: str | os.PathLike[str]) -> nn.Module:
    """The model of a file, float32 on the CPU, in evaluation mode.

    Raises:
        ArtifactError: the file cannot be read, or as `unpack`.
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


def _check_fit(
    model: nn.Module, found: Mapping[str, Tensor], architecture: str, classes: int
) -> list[int]:
    """How much narrower each width is than the architecture's; all else must be the same."""
    if not 1 <= classes <= MAX_CLASSES:
        raise InvalidInput("classes", classes, f"from 1 to {MAX_CLASSES}")
    stock = skeleton(architecture, classes)
    full, own = widths(stock), widths(model)
    if own != full:
        # A model of another architecture is told by its layers below, in words.
        with suppress(ValueError):
            resize(stock, own)
    expected = stock.state_dict()
    for name in [*expected, *found]:
        want, have = _describe(expected.get(name)), _describe(found.get(name))
        if want != have:
            allowed = f"{want}, as {architecture} with {classes} classes has"
            raise InvalidInput("model", f"{name}: {have}", allowed)
    if list(expected) != list(found):
        raise InvalidInput("model", "other order of layers", f"the order in {architecture}")
    if own != full and not runs(stock, classes):
        raise InvalidInput("model", "other widths", f"what runs, with {classes} classes")
    return [f - o for f, o in zip(full, own, strict=True)]


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "nothing"
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for piece in parts:
        digest.update(piece)
    return digest.digest()


def _write_header(
    version: int, architecture: str, classes: int, details: Mapping[str, Any], size: int
) -> bytes:
    try:
        said = json.dumps(dict(details), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("details", type(details).__name__, f"JSON ({error})") from None
    if len(said) > MAX_DETAILS:
        raise InvalidInput("details", f"{len(said)} bytes", f"at most {MAX_DETAILS}")
    entries = {
        "__metadata__": {
            "architecture": architecture,
            "classes": str(classes),
            "details": said,
            "format": f"{_FORMAT}/{version}",
        },
        "payload": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
    }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _read_header(data: bytes) -> _Header:
    """Check version, lengths and digest. Nothing larger than the header is made."""
    foreign = ArtifactError("this is not a file of a compressed model, or it is cut short")
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 + _DIGEST or not 0 < size <= min(_MAX_HEADER, len(data) - 8):
        raise foreign
    try:
        entries = json.loads(data[8 : 8 + size])
        said = entries["__metadata__"]
        name, _, version = said["format"].partition("/")
        if name != _FORMAT or not version.isdecimal():
            raise foreign
        if int(version) > VERSION:
            raise ArtifactError(
                f"the file is of version {version}; this program reads versions up to {VERSION}"
            )
        end, (first, last) = 8 + size, entries["payload"]["data_offsets"]
        if first != 0 or last != len(data) - end or last < _LENGTHS.size + _DIGEST:
            raise ArtifactError("the file is cut short, or something was added to it")
        if _digest(memoryview(data)[:-_DIGEST]) != data[-_DIGEST:]:
            raise ArtifactError("the file is damaged: its checksum does not match")
        header = _Header(
            int(version),
            said["architecture"],
            int(said["classes"]),
            json.loads(said["details"]),
            end,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise foreign from None
    return _checked(header)


def _checked(header: _Header) -> _Header:
    if not isinstance(header.details, dict):
        raise ArtifactError("the file's details are not a JSON object")
    if not 1 <= header.classes <= MAX_CLASSES:
        raise ArtifactError(
            f"the file claims {header.classes} classes, at most {MAX_CLASSES} can be"
        )
    return header


def _read_into(model: nn.Module, payload: memoryview, header: _Header) -> None:
    """Give a model on the meta device the file's widths, numbers and grids of inputs."""
    numbers, words, raw = _read_parts(payload, len(model.state_dict()))
    inputs = {}
    if header.version >= 2:
        _read_widths(numbers, model, header.classes)
        inputs = read_inputs(numbers, model)
    own = model.state_dict()
    like = {**own, **input_state(inputs)}
    if header.version >= 3:
        state = read(numbers, words, raw, like)
    else:
        state = assemble(read_plan(numbers, like), Decoder(numbers, words, raw), like)
    model.load_state_dict({name: state[name] for name in own}, assign=True)
    parametrize_inputs(model, input_grids_of(inputs, state))


def _read_widths(numbers: Iterator[int], model: nn.Module, classes: int) -> None:
    full = widths(model)
    own = [width - next_varint(numbers) for width in full]
    resize(model, own)
    if own != list(full) and not runs(model, classes):
        raise ValueError("its layers do not fit each other")


def _read_parts(payload: memoryview, tensors: int) -> tuple[Iterator[int], bytes, bytes]:
    """The numbers of the index, the coded words and the raw bytes."""
    index_bytes, words_bytes = _LENGTHS.unpack_from(payload)
    at = _LENGTHS.size
    if at + index_bytes + words_bytes > len(payload):
        raise ValueError("its parts are longer than the file")
    inflater = zlib.decompressobj()
    index = inflater.decompress(payload[at : at + index_bytes], 4096 * (tensors + 16))
    if not inflater.eof:
        raise ValueError("the index is too long")
    at += index_bytes
    words, raw = payload[at : at + words_bytes], payload[at + words_bytes :]
    return read_numbers(index), bytes(words), bytes(raw)
