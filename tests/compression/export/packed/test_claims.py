"""What a small file claims costs no memory: it is refused before anything large is made."""

import hashlib
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compression.export.packed.format_v2 import DTYPES, GRID
from compression.export.packed.header import write_header
from compression.export.packed.order0_coder import write_numbers
from compression.models.load import build, skeleton
from compression.models.parametrize import compressible
from compression.models.widths import widths

HUGE = "regnet_y_128gf"  # 2.6 GB of weights
# Loads files in a process that may take a gigabyte more than it has once all is imported.
CHILD = """
import resource, sys
from compression.errors import ArtifactError
from compression.export.packed.file import load
from compression.models.load import skeleton
skeleton("squeezenet1_1", 10)
pages = int(open("/proc/self/statm").read().split()[0])
room = pages * resource.getpagesize() + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load(path)
    except ArtifactError as error:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


def _file(architecture: str, index: bytes, version: int = 3, words: bytes = b"") -> bytes:
    """A file with a right checksum and that index, and nothing coded behind it."""
    table = zlib.compress(index, 9)
    payload = struct.pack("<II", len(table), len(words)) + table + words
    header = {
        "__metadata__": {
            "architecture": architecture,
            "classes": "10",
            "details": "{}",
            "format": f"compression-dashboard/{version}",
        },
        "payload": {"data_offsets": [0, len(payload) + 16]},
    }
    text = json.dumps(header).encode()
    body = struct.pack("<Q", len(text)) + text + payload
    return body + hashlib.blake2b(body, digest_size=16).digest()


def _entry(tensor: Tensor, version: int) -> list[int]:
    """In an index: a weight of one code and one scale, or plain numbers."""
    if tensor.dtype != torch.float32:
        return [0, DTYPES.index(torch.empty(0, dtype=tensor.dtype).numpy().dtype)]
    if tensor.ndim < 2:
        return [0, 0]
    return [0, GRID, 1, 0, 0] if version == 3 else [0, GRID, 0, 1, 0, 0]


def _fitting_index(architecture: str, version: int) -> bytes:
    """An index with nothing wrong: every layer as wide as the architecture's, and all its weights
    zero, which takes no byte."""
    model = skeleton(architecture, 10)
    start = [0] * (len(widths(model)) + len(list(compressible(model))))
    entries = [n for t in model.state_dict().values() for n in _entry(t, version)]
    return write_numbers([*(start if version > 1 else []), *entries, *[1] * 4096])


@pytest.mark.slow
def test_small_files_that_name_a_huge_model_are_refused_at_once(tmp_path: Path) -> None:
    paths = []
    for version in (1, 2, 3):
        indices = {"short": write_numbers([0] * 100), "fitting": _fitting_index(HUGE, version)}
        for kind, index in indices.items():
            paths.append(tmp_path / f"{kind}{version}.safetensors")
            paths[-1].write_bytes(_file(HUGE, index, version))
            assert paths[-1].stat().st_size < 2000
    child = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr[-500:]
    lines = child.stdout.splitlines()
    assert len(lines) == len(paths)
    for path, line in zip(paths, lines, strict=True):
        kilobytes, _, message = line.partition(" ")
        assert message.startswith(f"{path}: the file is damaged")
        assert "cannot hold" in message or path.stem.startswith("short")
        assert int(kilobytes) < 100 << 10


def test_the_skeleton_of_every_architecture_takes_no_memory_and_no_random_number() -> None:
    before = torch.get_rng_state()
    model = skeleton("regnet_y_400mf", 10)
    assert {t.device.type for t in model.state_dict().values()} == {"meta"}
    assert torch.equal(before, torch.get_rng_state())
    built = build("regnet_y_400mf", 10).state_dict()
    assert {n: t.shape for n, t in model.state_dict().items()} == {
        n: t.shape for n, t in built.items()
    }


def test_the_file_of_a_model_of_nothing_but_zeros_is_filled_up() -> None:
    smallest = len(write_header(3, "alexnet", 10, {"a": 1}, payload_bytes=200)) + 200
    for least in (0, 100, smallest, smallest + 1, 5000, 5001):
        header = write_header(3, "alexnet", 10, {"a": 1}, payload_bytes=200, least_file_bytes=least)
        length = struct.unpack_from("<Q", header)[0]
        assert len(header) == 8 + length and length % 8 == 0
        assert max(least, smallest) <= len(header) + 200 < max(least, smallest) + 16
        assert json.loads(header[8:])["payload"]["data_offsets"] == [0, 200]
