"""How large a model is, by every measure people use."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from torch import nn

from compression.export.packed.format_v2 import dissect
from compression.export.packed.order0_coder import entropy_bytes
from compression.models.load import parameter_bytes
from compression.models.parametrize import compressible, materialize, weight_of
from compression.models.target import Target
from compression.paths import cache_dir, write_cached

# What `gzip` does by default. One member for every piece, so that all cores can work.
GZIP_LEVEL = 6
_PIECE = 1 << 22


@dataclass(frozen=True)
class Sizes:
    """Bytes and counts of one model.

    artifact_bytes: the packed file, to the last byte.
    dense_bytes: the tensors of the state dict with ordinary weights, 4 bytes to every
        floating-point number and buffers at their own size; no file header.
    gzip_bytes: those same bytes by gzip at its usual level, in pieces of 4 MiB.
    entropy_bound_bytes: the order-0 entropy of codes of each quantized layer, masks, and for all
        other numbers the bytes of each role: the least for a coder that looks at one number at a
        time, without tables and header. A file is smaller where a weight tells of its neighbours.
    parameters, nonzero: of all layers, with ordinary weights.
    sparsity: zeros as a fraction of the compressible weights only (convolutions and linear
        layers, without biases).
    bits_per_weight: 8 x artifact_bytes / the original's parameters.
    """

    artifact_bytes: int
    dense_bytes: int
    gzip_bytes: int
    entropy_bound_bytes: int
    parameters: int
    nonzero: int
    sparsity: float
    bits_per_weight: float


def measure_sizes(model: nn.Module, packed: bytes, original_parameters: int) -> Sizes:
    """Sizes of a model and of its packed file.

    Args:
        model: with its masks and grids.
        packed: its file.
        original_parameters: how many parameters the model had that it was made of.
    """
    copied = materialize(model)
    weights = [weight_of(module) for _, module in compressible(copied)]
    total = sum(w.numel() for w in weights)
    zeros = total - sum(int(w.count_nonzero()) for w in weights)
    return Sizes(
        artifact_bytes=len(packed),
        dense_bytes=parameter_bytes(copied),
        gzip_bytes=_gzip_bytes(copied),
        entropy_bound_bytes=round(sum(map(entropy_bytes, dissect(model, copied.state_dict())[1]))),
        parameters=sum(p.numel() for p in copied.parameters()),
        nonzero=sum(int(p.count_nonzero()) for p in copied.parameters()),
        sparsity=zeros / total if total else 0.0,
        bits_per_weight=8 * len(packed) / original_parameters,
    )


def original_sizes(target: Target) -> Sizes:
    """The sizes of a target's original, as a float32 state dict.

    Kept in the cache folder: gzip alone takes seconds for a large model.
    """
    name = hashlib.sha256(target.identity.encode()).hexdigest()[:16]
    path = cache_dir() / "originals" / f"{name}.json"
    with suppress(OSError, ValueError, TypeError):
        return Sizes(**json.loads(path.read_text()))
    sizes = measure_sizes(target.model, b"", original_parameters=target.parameters)
    # The original always counts as its float32 state dict, however it happens to be stored.
    bits = 8 * sizes.dense_bytes / target.parameters
    sizes = replace(sizes, artifact_bytes=sizes.dense_bytes, bits_per_weight=bits)
    with suppress(OSError):
        write_cached(path, json.dumps(asdict(sizes)).encode())
    return sizes


def _gzip_bytes(model: nn.Module) -> int:
    tensors = [
        (t.float() if t.is_floating_point() else t).cpu().contiguous().numpy()
        for t in model.state_dict().values()
    ]
    whole = b"".join(t.tobytes() for t in tensors)
    pieces = (whole[at : at + _PIECE] for at in range(0, len(whole), _PIECE))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(lambda piece: len(gzip.compress(piece, GZIP_LEVEL, mtime=0)), pieces))
