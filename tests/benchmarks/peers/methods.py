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
from tests.benchmarks.peers.cells import CELLS, SWEEP, Job, Made
from tests.benchmarks.peers.environments import ENVIRONMENTS, python_of

ORIGINAL = "original"
QUANTIZATION = tuple(name for name, cell in CELLS.items() if cell.quantizes)
SPARSITY = tuple(name for name, cell in CELLS.items() if cell.sparsity is not None)
CHANNELS = tuple(name for name, cell in CELLS.items() if cell.macs is not None)


@dataclass(frozen=True)
class Method:
    """A column of the tables: its module, the packages it needs, and what it can do.

    `variants` lists, by cell, what is tried on validation; `reasons` why a cell is not there.
    `environment` names the one it has for itself, beside the project's.
    """

    title: str
    module: str
    needs: tuple[str, ...] = ()
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    environment: str = ""


def _each(cells: tuple[str, ...], value: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(cells, value)


def _adapted(*variants: str) -> tuple[str, ...]:
    """The same variants, each followed by estimating the statistics of batch norms anew."""
    return tuple(f"{variant}, adapted" for variant in variants)


def _adjusted(*grids: str, repairs: tuple[str, ...]) -> tuple[str, ...]:
    """Brevitas's grids, each with its columns in order of the Hessian and with each repair."""
    return tuple(f"{grid}, ordered, {repair}" for grid in grids for repair in repairs)


def _why(*pairs: tuple[tuple[str, ...], str]) -> dict[str, str]:
    return {cell: reason for cells, reason in pairs for cell in cells}


# Finer to coarser; the step doubles with every fourth.
_QPS = range(-44, -11)
_TORCHAO_SPARSE = (
    "torchao's sparsifiers (WeightNormSparsifier, WandaSparsifier) raise on the four-dimensional "
    "weights of convolutions"
)
_OBSERVERS = ("histogram", "minmax")
_CALIBRATIONS = ("minmax", "entropy", "percentile")
# In one layer LAMP ranks as magnitude does; over all layers magnitude empties the small ones.
_CHANNELS = ("global LAMP", "global Taylor", "layer magnitude", "layer Taylor")
_IN_STEPS = ("global Taylor in steps", "layer Taylor in steps")
_CHANNELS_REASONS = _why(
    (QUANTIZATION, "torch-pruning does not quantize"),
    ((*SPARSITY, "2:4"), "torch-pruning removes whole channels only"),
)
_TORCH_REASONS = _why(
    (QUANTIZATION, "torch.nn.utils.prune does not quantize"),
    (("2:4",), "torch.nn.utils.prune has no N:M pattern"),
    (CHANNELS, "torch.nn.utils.prune masks channels and removes none"),
)

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
    "aimet": Method(
        "AIMET",
        "aimet",
        needs=("aimet_torch",),
        variants={
            **_each(("W8A8", "W6A6", "W4A8"), ("folded, 2000 iterations",)),
            **_each(("W4", "W3", "W2"), ("folded, 2000 iterations", "adapted, 2000 iterations")),
        },
        reasons=_why(
            ((*SPARSITY, "2:4"), "AIMET does not prune single weights"),
            (CHANNELS, "AIMET's channel pruning wants a greedy search over its own cost model"),
        ),
    ),
    "brevitas": Method(
        "Brevitas",
        "brevitas",
        needs=("brevitas",),
        variants={
            **_each(("W8A8", "W6A6", "W4A8"), _adjusted("sym", "asym", repairs=("bias",))),
            **_each(("W4", "W3", "W2"), _adjusted("sym", "asym", repairs=("bias", "batch norm"))),
        },
        reasons=_why(((*SPARSITY, "2:4", *CHANNELS), "Brevitas does not prune")),
    ),
    "torch": Method(
        "torch prune",
        "torch_prune",
        variants=_each(SPARSITY, ("global", "layer")),
        reasons=_TORCH_REASONS,
    ),
    "torch + BN": Method(
        "torch prune + BN",
        "torch_prune",
        variants=_each(SPARSITY, _adapted("global", "layer")),
        reasons=_TORCH_REASONS,
    ),
    "torch-pruning": Method(
        "torch-pruning",
        "channels",
        needs=("torch_pruning",),
        variants=_each(CHANNELS, _CHANNELS),
        reasons=_CHANNELS_REASONS,
    ),
    "torch-pruning + BN": Method(
        "torch-pruning + BN",
        "channels",
        needs=("torch_pruning",),
        variants=_each(CHANNELS, _adapted(*_CHANNELS, *_IN_STEPS)),
        reasons=_CHANNELS_REASONS,
    ),
    "nncodec": Method(
        "NNCodec",
        "nncodec",
        variants={SWEEP: tuple(f"weights {qp}, others -50" for qp in _QPS)},
        environment="nncodec",
    ),
}


class Module(Protocol):
    """What a method's module offers."""

    run: Callable[[Job], Made]


def load(name: str) -> Module:
    """Import a method, and with it the library that it uses."""
    return cast(Module, import_module(f"tests.benchmarks.peers.{METHODS[name].module}"))


def missing(names: list[str]) -> list[str]:
    """The packages that these methods need and that are not installed, by what installs them."""
    packages = [p for n in names for p in METHODS[n].needs if find_spec(p) is None]
    group = [f"{', '.join(packages)}: uv sync --all-extras --group peers"] if packages else []
    apart = [e for n in names if (e := METHODS[n].environment) and not python_of(e).exists()]
    return [*group, *(f"{name}: {ENVIRONMENTS[name].command}" for name in apart)]


def check(field: str, given: list[str], allowed: list[str]) -> list[str]:
    """What was given, in the order of what is allowed.

    Raises:
        InvalidInput: something given is not allowed.
    """
    for one in given:
        if one not in allowed:
            raise InvalidInput(field, one, ", ".join(allowed))
    return [one for one in allowed if one in given]
