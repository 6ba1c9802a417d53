"""How large a model is, by every measure people use."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from torch import nn

from compression.entropy import entropy_bytes
from compression.layers import compressible, plain, weight_of
from compression.streams import dissect

# Levels above this take several times as long on float32 weights and save less than a per cent.
GZIP_LEVEL = 1


@dataclass(frozen=True)
class Sizes:
    """Bytes and counts of one model; see `measure_sizes`."""

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

    artifact_bytes: the packed file, to the last byte.
    dense_bytes: the tensors of the plain state dict, 4 bytes to every floating-point number and
        buffers at their own size; no file header.
    gzip_bytes: those same bytes in gzip's format, one tensor after the other.
    entropy_bound_bytes: the order-0 entropy of what the file stores (codes of each quantized
        layer, masks, and for all other numbers the bytes of each role); no table, scale or header
        that a decoder needs on top is forgotten in `artifact_bytes`, which is never smaller.
    parameters, nonzero: of the plain model; zeros in convolutions, linear layers and all others.
    sparsity: zeros as a fraction of the compressible weights only (convolutions and linear
        layers, without biases).
    bits_per_weight: 8 x artifact_bytes / `original_parameters`.
    """
    twin = plain(model)
    weights = [weight_of(module) for _, module in compressible(twin)]
    total = sum(w.numel() for w in weights)
    zeros = total - sum(int(w.count_nonzero()) for w in weights)
    return Sizes(
        artifact_bytes=len(packed),
        dense_bytes=_dense_bytes(twin),
        gzip_bytes=_gzip_bytes(twin),
        entropy_bound_bytes=round(sum(map(entropy_bytes, dissect(model)[1]))),
        parameters=sum(p.numel() for p in twin.parameters()),
        nonzero=sum(int(p.count_nonzero()) for p in twin.parameters()),
        sparsity=zeros / total if total else 0.0,
        bits_per_weight=8 * len(packed) / original_parameters,
    )


def _dense_bytes(model: nn.Module) -> int:
    return sum(
        t.numel() * (4 if t.is_floating_point() else t.element_size())
        for t in model.state_dict().values()
    )


def _gzip_bytes(model: nn.Module) -> int:
    deflater = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    size = 0
    for tensor in model.state_dict().values():
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        size += len(deflater.compress(tensor.cpu().contiguous().numpy().tobytes()))
    return size + len(deflater.flush())
