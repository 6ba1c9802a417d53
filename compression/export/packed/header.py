"""The header of a packed file: what the file says of itself, and the checks before it is believed.

A safetensors header: the format with its version, the architecture, its classes, and JSON of the
writer's own. Behind it the payload, and a BLAKE2b digest of every byte before.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compression.errors import ArtifactError, InvalidInput

VERSION = 3
MAX_CLASSES = 65_536
MAX_DETAILS = 65_536
_FORMAT = "compression-dashboard"
_MAX_HEADER = 1 << 20
DIGEST_BYTES = 16
# Bytes of the index and of the coded words: how a payload begins.
LENGTHS = struct.Struct("<II")


@dataclass(frozen=True)
class Header:
    """What a file claims: its format's version, a torchvision architecture with so many classes,
    and JSON of the writer's own. The payload starts `payload_start` bytes into the file."""

    version: int
    architecture: str
    classes: int
    details: dict[str, Any]
    payload_start: int


def digest(*parts: bytes | memoryview) -> bytes:
    """BLAKE2b over the parts in order, 16 bytes."""
    blake = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        blake.update(part)
    return blake.digest()


def write_header(
    version: int,
    architecture: str,
    classes: int,
    details: Mapping[str, Any],
    *,
    payload_bytes: int,
    least_file_bytes: int = 0,
) -> bytes:
    """The header of a file, its own length first.

    Args:
        version: of the format, 1 to `VERSION`.
        details: what else the file should say of itself: JSON, at most 64 KiB.
        payload_bytes: bytes that follow, the digest among them.
        least_file_bytes: a file that would be smaller is filled up with blanks, here.

    Raises:
        InvalidInput: `details` is not such JSON.
    """
    try:
        details_json = json.dumps(
            dict(details), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("details", type(details).__name__, f"JSON ({error})") from None
    if len(details_json) > MAX_DETAILS:
        raise InvalidInput("details", f"{len(details_json)} bytes", f"at most {MAX_DETAILS}")
    entries = {
        "__metadata__": {
            "architecture": architecture,
            "classes": str(classes),
            "details": details_json,
            "format": f"{_FORMAT}/{version}",
        },
        "payload": {"dtype": "U8", "shape": [payload_bytes], "data_offsets": [0, payload_bytes]},
    }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * max(least_file_bytes - len(text) - payload_bytes, 0)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def read_header(data: bytes) -> Header:
    """The header of a file, once its version, lengths and digest are checked.

    Nothing larger than the header is made.

    Raises:
        ArtifactError: the data is not one of our files, is damaged, or is of a newer version.
    """
    foreign = ArtifactError("this is not a file of a compressed model, or it is cut short")
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 + DIGEST_BYTES or not 0 < size <= min(_MAX_HEADER, len(data) - 8):
        raise foreign
    try:
        entries = json.loads(data[8 : 8 + size])
        claims = entries["__metadata__"]
        name, _, version = claims["format"].partition("/")
        if name != _FORMAT or not version.isdecimal():
            raise foreign
        if int(version) > VERSION:
            raise ArtifactError(
                f"the file is of version {version}; this program reads versions up to {VERSION}"
            )
        start, (first, last) = 8 + size, entries["payload"]["data_offsets"]
        if first != 0 or last != len(data) - start or last < LENGTHS.size + DIGEST_BYTES:
            raise ArtifactError("the file is cut short, or something was added to it")
        if digest(memoryview(data)[:-DIGEST_BYTES]) != data[-DIGEST_BYTES:]:
            raise ArtifactError("the file is damaged: its checksum does not match")
        header = Header(
            int(version),
            claims["architecture"],
            int(claims["classes"]),
            json.loads(claims["details"]),
            start,
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise foreign from None
    return _check(header)


def _check(header: Header) -> Header:
    if not isinstance(header.details, dict):
        raise ArtifactError("the file's details are not a JSON object")
    if not 1 <= header.classes <= MAX_CLASSES:
        raise ArtifactError(f"the file claims {header.classes} classes, the limit is {MAX_CLASSES}")
    return header
