"""Prefixes of recipes already computed: in memory for the next slider move, on disk if costly.

A prefix is stored as the widths of its layers, the tensors of its state dict, and which weights and
inputs have masks and grids, so that these come back as they were. No pickle.
"""

from __future__ import annotations

import copy
import json
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from compression.export.packed.input_grids import input_grids_of, input_state
from compression.models.input_quantizers import input_grids, parametrize_inputs
from compression.models.parametrize import (
    QuantizationGrid,
    compressible,
    grid_of,
    mask_of,
    parametrize_weight,
)
from compression.models.widths import resize, widths
from compression.paths import cache_dir, keep_newest, write_cached
from compression.runs.durations.expected import KEPT_FROM_SECONDS
from compression.runs.progress import Curve

KEPT_IN_MEMORY = 4
DISK_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class CompressedModel:
    """What `compress` gives back.

    Args:
        model: with its masks and grids as parametrizations.
        notes: what to know of how it was made, in whole sentences.
        curves: how it was trained, one for each distilling step.
        stopped: whether somebody cut the training short.
    """

    model: nn.Module
    notes: tuple[str, ...]
    curves: tuple[Curve, ...] = ()
    stopped: bool = False


_memory: OrderedDict[str, CompressedModel] = OrderedDict()


def get(key: str, blank: nn.Module) -> CompressedModel | None:
    """A copy of the prefix kept under `key`, or None. `blank` is a model of its architecture."""
    if key in _memory:
        _memory.move_to_end(key)
        return copy.deepcopy(_memory[key])
    path = _path(key)
    if not path.exists():
        return None
    try:
        prefix = _read(path, blank)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError):
        path.unlink(missing_ok=True)  # damaged: computed again
        return None
    os.utime(path)
    return prefix


def put(key: str, prefix: CompressedModel, seconds: float) -> None:
    """Keep a copy of a prefix, which took `seconds` to compute, under `key`."""
    _memory[key] = copy.deepcopy(prefix)
    _memory.move_to_end(key)
    while len(_memory) > KEPT_IN_MEMORY:
        _memory.popitem(last=False)
    if seconds >= KEPT_FROM_SECONDS:
        try:
            path = _path(key)
            _write(path, prefix)
            keep_newest(path.parent, "*.safetensors", DISK_BYTES, lambda p: p.stat().st_size)
        except OSError:
            # A cache that cannot be written only costs time later.
            return


def _path(key: str) -> Path:
    return cache_dir() / "prefixes" / f"{key}.safetensors"


def _write(path: Path, prefix: CompressedModel) -> None:
    layers = {}
    for name, module in compressible(prefix.model):
        mask, grid = mask_of(module), grid_of(module)
        codes = [grid.low, grid.high] if grid is not None else None
        if mask is not None or codes is not None:
            layers[name] = {"mask": mask is not None, "codes": codes}
    inputs = input_grids(prefix.model)
    state = {**prefix.model.state_dict(), **input_state(inputs)}
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    facts = {
        "widths": widths(prefix.model),
        "held": layers,
        "inputs": {name: [grid.low, grid.high] for name, grid in inputs.items()},
        "notes": prefix.notes,
        "curves": [c.model_dump(mode="json") for c in prefix.curves],
    }
    metadata = {name: json.dumps(value) for name, value in facts.items()}
    write_cached(path, save(tensors, metadata=metadata))


def _read(path: Path, blank: nn.Module) -> CompressedModel:
    model = copy.deepcopy(blank)
    with safe_open(path, "pt") as file:
        facts = {name: json.loads(value) for name, value in file.metadata().items()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    resize(model, facts["widths"])
    modules = dict(compressible(model))
    for name, how in facts["held"].items():
        module = modules[name]
        parts = f"{name}.parametrizations.weight"
        mask = tensors[f"{parts}.0.mask"] if how["mask"] else None
        at = f"{parts}.{int(how['mask'])}"
        grid = (
            QuantizationGrid(tensors[f"{at}.scale"], tensors[f"{at}.zero_point"], *how["codes"])
            if how["codes"]
            else None
        )
        parametrize_weight(module, mask, grid)
    nothing = torch.empty(0)
    inputs = {
        name: QuantizationGrid(nothing, nothing, *codes) for name, codes in facts["inputs"].items()
    }
    grids = input_grids_of(inputs, tensors)
    model.load_state_dict({k: v for k, v in tensors.items() if k not in input_state(inputs)})
    parametrize_inputs(model, grids)
    curves = tuple(Curve.model_validate(c) for c in facts["curves"])
    return CompressedModel(
        model.to(memory_format=torch.channels_last).eval(), tuple(facts["notes"]), curves
    )
