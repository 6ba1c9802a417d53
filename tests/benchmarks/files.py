"""The packed file against what general coders make of it: `python -m tests.benchmarks.files`.

Every bundled model is compressed in several ways (preset `better`) and packed. The entropy bound is
the order-0 entropy of all that is stored. gzip and lzma (both at their best) get the same numbers
as compactly as can be without modelling: codes bit-packed, layer by layer, then scales and all
other numbers, in half precision where that is exact; zstd -19 too, where the program is installed.
Seconds are of one core. --write puts the table into the README.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compression.catalogue.cards import card, cards
from compression.export.packed.file import pack, unpack
from compression.export.packed.format_v2 import (
    DTYPES,
    codes_of,
    grids_of,
    smallest,
)
from compression.measure.size import measure_sizes
from compression.models.parametrize import materialize
from compression.recipe.presets import apply_preset
from compression.recipe.recipe import Recipe, parse
from tests.readme import EXPORT, markdown_table, replace_section

ROUNDS = 3
_PRUNE: dict[str, Any] = {"step": "prune"}
_QUANTIZE: dict[str, Any] = {"step": "quantize"}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "8 bits": [{**_QUANTIZE, "bits": 8, "rounding": "nearest"}],
    "4 bits": [{**_QUANTIZE, "bits": 4}],
    "2 bits": [{**_QUANTIZE, "bits": 2}],
    "80 % zeros, 8 bits": [{**_PRUNE, "sparsity": 0.8}, {**_QUANTIZE, "bits": 8}],
    "95 % zeros, 4 bits": [{**_PRUNE, "sparsity": 0.95}, {**_QUANTIZE, "bits": 4}],
}


def zstd(data: bytes) -> bytes:
    """By the program; nothing where it is not installed."""
    if not shutil.which("zstd"):
        return b""
    return subprocess.run(["zstd", "-19", "-c"], input=data, capture_output=True, check=True).stdout


CODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: zlib.compress(data, 9),
    "lzma": lambda data: lzma.compress(data, preset=9 | lzma.PRESET_EXTREME),
    "zstd": zstd,
}


def bit_packed(model: nn.Module, state: Mapping[str, Tensor]) -> bytes:
    """A model's numbers without any modelling: what a general coder is given."""
    grids = grids_of(model)
    packed, rest = [], []
    for name, tensor in state.items():
        found = codes_of(tensor, grids[name]) if name in grids else None
        if found is None:
            rest.append(_exact(tensor))
            continue
        codes, grid = found
        bits = (grid.high - grid.low).bit_length()
        values = (codes - grid.low).numpy().ravel().astype(np.uint8)
        packed.append(np.packbits(np.unpackbits(values[:, None], axis=1)[:, 8 - bits :]).tobytes())
        rest.append(_exact(grid.scale))
    return b"".join(packed + rest)


def _exact(tensor: Tensor) -> bytes:
    values = tensor.detach().numpy().ravel()
    return values.astype(DTYPES[smallest(values)]).tobytes()


def seconds(call: Callable[[], object]) -> float:
    """Processor seconds of the fastest of several calls."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


def row(model_id: str, setting: str) -> list[str]:
    """One line of the table."""
    from compression.methods.pipeline import compress

    steps = [apply_preset("better", step) for step in SETTINGS[setting]]
    model = compress(model_id, parse(Recipe, {"steps": steps}), device="cpu").model
    found = card(model_id)

    def packing() -> bytes:
        return pack(model, architecture=found.architecture, classes=found.classes, details={})

    data, state = packing(), materialize(model).state_dict()
    loaded = unpack(data).state_dict()
    assert all(torch.equal(state[name], loaded[name]) for name in state), (model_id, setting)
    sizes = measure_sizes(model, data, original_parameters=found.parameters)
    others = {name: len(coder(bit_packed(model, state))) for name, coder in CODERS.items()}
    return [
        f"`{model_id.rpartition('/')[2]}`",
        setting,
        f"{len(data) / 1e3:,.1f}",
        f"{sizes.bits_per_weight:.3g}",
        f"{len(data) / sizes.entropy_bound_bytes:.3f}",
        *(f"{len(data) / size:.2f}" if size else "" for size in others.values()),
        f"{seconds(packing):.2f}",
        f"{seconds(lambda: unpack(data)):.2f}",
    ]


def main(arguments: list[str] | None = None) -> None:
    """Print the table; with --write put it into the README too."""
    parser = argparse.ArgumentParser(description=__doc__)
    bundled = [m for m, c in cards().items() if c.bundled]
    parser.add_argument("--models", default=",".join(bundled), help="ids, with commas between")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = []
    for model_id in given.models.split(","):
        for setting in SETTINGS:
            rows.append(row(model_id, setting))
            print(rows[-1], flush=True)
    header = ["model", "", "kB", "bits per weight", "of the entropy bound"]
    header += [f"of {name}" for name in CODERS] + ["encode, s", "decode, s"]
    table = markdown_table(header, rows, right=len(header) - 2)
    print(table)
    if given.write:
        replace_section("files", table, EXPORT)


if __name__ == "__main__":
    main()
