"""The registry of methods: what each can do, in which variants, and why not the rest.

A method's module, and with it the library it uses, is imported only where the method runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from compression.errors import InvalidInput
from tests.benchmarks.peers import ours
from tests.benchmarks.peers.cells import CELLS, Job, Made

ORIGINAL = "original"
QUANTIZATION = tuple(name for name, cell in CELLS.items() if cell.quantizes)
SPARSITY = tuple(name for name, cell in CELLS.items() if cell.sparsity is not None)
CHANNELS = tuple(name for name, cell in CELLS.items() if cell.macs is not None)


@dataclass(frozen=True)
class Method:
    """A column of the tables: its module, the packages it needs, and what it can do.

    `variants` lists, by cell, what is tried on validation; `reasons` why a cell is not there.
    """

    title: str
    module: str
    needs: tuple[str, ...] = ()
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def _each(cells: tuple[str, ...], value: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(cells, value)


def _why(*pairs: tuple[tuple[str, ...], str]) -> dict[str, str]:
    return {cell: reason for cells, reason in pairs for cell in cells}


_TORCHAO_SPARSE = (
    "torchao's sparsifiers (WeightNormSparsifier, WandaSparsifier) raise on the four-dimensional "
    "weights of convolutions"
)
_OBSERVERS = ("histogram", "minmax")
_CALIBRATIONS = ("minmax", "entropy", "percentile")
# In one layer LAMP ranks as magnitude does; over all layers magnitude empties the small ones.
_CHANNELS = ("global LAMP", "global Taylor", "layer magnitude", "layer Taylor")

METHODS: dict[str, Method] = {
    ORIGINAL: Method("original", "original"),
    "ours": Method(
        "ours", "ours", variants={n: tuple(r.key for r in rs) for n, rs in ours.RECIPES.items()}
    ),
    "nncf": Method(
        "NNCF",
        "nncf",
        needs=("nncf", "openvino"),
        variants={
            "W8A8": ("torch", "openvino", "openvino, full bias correction"),
            **_each(SPARSITY, ("global, adapted", "layer, adapted")),
        },
        reasons=_why(
            (("W6A6", "W4A8"), "NNCF refuses other than 8 bits as incompatible with the CPU"),
            (("W4", "W3", "W2"), "NNCF's int4 is for linear layers: convolutions get 8 bits"),
            (("2:4",), "NNCF's pruning has no N:M pattern"),
            (CHANNELS, "NNCF 3 no longer removes channels"),
        ),
    ),
    "pt2e": Method(
        "torchao PT2E",
        "pt2e",
        needs=("torchao",),
        variants={
            **_each(("W8A8", "W6A6", "W4A8"), _OBSERVERS),
            **_each(("W4", "W3", "W2"), ("symmetric", "narrow", "affine")),
        },
        reasons=_why(
            ((*SPARSITY, "2:4"), _TORCHAO_SPARSE),
            (CHANNELS, "torchao removes channels in prototypes only"),
        ),
    ),
    "ort": Method(
        "ONNX Runtime",
        "ort",
        needs=("onnxruntime",),
        variants={**_each(("W8A8", "W4A8"), _CALIBRATIONS), "W4": ("minmax",)},
        reasons=_why(
            (("W6A6", "W3", "W2"), "ONNX Runtime quantizes to 4, 8 and 16 bits only"),
            ((*SPARSITY, "2:4", *CHANNELS), "ONNX Runtime does not prune"),
        ),
    ),
    "torch": Method(
        "torch prune",
        "torch_prune",
        variants=_each(SPARSITY, ("global", "layer")),
        reasons=_why(
            (QUANTIZATION, "torch.nn.utils.prune does not quantize"),
            (("2:4",), "torch.nn.utils.prune has no N:M pattern"),
            (CHANNELS, "torch.nn.utils.prune masks channels and removes none"),
        ),
    ),
    "torch-pruning": Method(
        "torch-pruning",
        "channels",
        needs=("torch_pruning",),
        variants=_each(CHANNELS, _CHANNELS),
        reasons=_why(
            (QUANTIZATION, "torch-pruning does not quantize"),
            ((*SPARSITY, "2:4"), "torch-pruning removes whole channels only"),
        ),
    ),
}


class Module(Protocol):
    """What a method's module offers."""

    run: Callable[[Job], Made]


def load(name: str) -> Module:
    """Import a method, and with it the library that it uses."""
    return cast(Module, import_module(f"tests.benchmarks.peers.{METHODS[name].module}"))


def missing(names: list[str]) -> list[str]:
    """The packages that these methods need and that are not installed."""
    return [p for n in names for p in METHODS[n].needs if find_spec(p) is None]


def check(field: str, given: list[str], allowed: list[str]) -> list[str]:
    """What was given, in the order of what is allowed.

    Raises:
        InvalidInput: something given is not allowed.
    """
    for one in given:
        if one not in allowed:
            raise InvalidInput(field, one, ", ".join(allowed))
    return [one for one in allowed if one in given]
