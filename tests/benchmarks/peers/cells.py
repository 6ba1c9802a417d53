"""What every method is to do: the rows of the tables. One literal dict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from compression.models.parametrize import compressible, weight_of

INPUT_SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Cell:
    """One row: bits, or a sparsity, or 2:4, or a share of the original's MACs, or a file."""

    title: str
    weight_bits: int | None = None
    activation_bits: int | None = None
    sparsity: float | None = None
    pattern: str | None = None
    macs: float | None = None
    file: bool = False

    @property
    def quantizes(self) -> bool:
        return self.weight_bits is not None


CELLS: dict[str, Cell] = {
    "W8A8": Cell("W8A8", 8, 8),
    "W6A6": Cell("W6A6", 6, 6),
    "W4A8": Cell("W4A8", 4, 8),
    "W4": Cell("W4", 4),
    "W3": Cell("W3", 3),
    "W2": Cell("W2", 2),
    "50": Cell("50 %", sparsity=0.5),
    "70": Cell("70 %", sparsity=0.7),
    "80": Cell("80 %", sparsity=0.8),
    "90": Cell("90 %", sparsity=0.9),
    "95": Cell("95 %", sparsity=0.95),
    "98": Cell("98 %", sparsity=0.98),
    "2:4": Cell("2:4", pattern="2:4"),
    "macs75": Cell("0.75 x MACs", macs=0.75),
    "macs50": Cell("0.5 x MACs", macs=0.5),
    "file8": Cell("8 bits", file=True),
    "file4": Cell("4 bits", file=True),
    "smallest": Cell("smallest", file=True),
    "sweep": Cell("sweep", file=True),
}
# The peer's files, one for each of its variants, and those of ours that they stand against.
SWEEP = "sweep"
FILES = tuple(name for name, cell in CELLS.items() if cell.file and name != SWEEP)


@dataclass(frozen=True)
class Job:
    """What a method gets: a model of its own, calibration images, and how many threads.

    `batches` are float32 [50, 3, 32, 32] in the default layout, `labels` their classes.
    """

    model_id: str
    model: nn.Module
    batches: list[Tensor]
    labels: list[Tensor]
    cell: Cell
    variant: str
    threads: int


@dataclass(frozen=True)
class Made:
    """What a method gives back: float32 [n, 3, 32, 32] to logits, and figures that prove it."""

    predict: Callable[[Tensor], Tensor]
    facts: dict[str, float] = field(default_factory=dict)


def zeros(model: nn.Module) -> float:
    """Fraction of the weights of convolutions and linear layers that are zero."""
    weights = [weight_of(module) for _, module in compressible(model)]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
