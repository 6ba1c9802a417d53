"""What is known of a weight before it is decoded: how large those beside it are.

The weights of a layer are visited in `PHASES` rounds, spread evenly over it, each about a
quarter of what came before it. The weights of one round are expected to be as large as the earlier
ones of the same output channel, input channel, kernel and place in the kernel say, by a product of
ratios, each pulled to 1 as far as the known weights do not vary more than chance would let them
(empirical Bayes; Efron and Morris, 1973).

Encoder and decoder must find the very same numbers on every machine: only additions,
multiplications, divisions of single elements, sums of whole numbers, and running sums are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.int32]

# Ends of the rounds, of 256. All numbers here are part of the format.
_ENDS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 79, 99, 124, 156, 196, 256)
PHASES = len(_ENDS)
# Steps of a low-discrepancy lattice (Roberts, 2018) over output, input and place in the kernel.
_STEPS = (159, 75, 101)
_MOST_BINS = 512


class Shape(NamedTuple):
    """A weight as [outputs, inputs, places in the kernel]."""

    outputs: int
    inputs: int
    kernel: int


def as_shape(sizes: tuple[int, ...]) -> Shape:
    """The shape of a weight: [outputs, inputs, ...], or of anything else."""
    sizes = (*sizes, 1, 1)[: max(len(sizes), 2)]
    return Shape(sizes[0], sizes[1], int(np.prod(sizes[2:], dtype=np.int64)))


@dataclass(frozen=True)
class Phase:
    """Weights visited together: where they are, and the row and the column that each belongs to.

    A row is a kernel, or an output channel where kernels have one place; a column is a place in the
    kernels of one input channel.
    """

    places: Places
    rows: Places
    columns: Places

    def only(self, which: NDArray[np.bool_]) -> Phase:
        return Phase(self.places[which], self.rows[which], self.columns[which])


def phases(shape: Shape) -> list[Phase]:
    """All weights of a layer, in the order in which they are visited."""
    steps = [(np.arange(n) * step).astype(np.uint8) for n, step in zip(shape, _STEPS, strict=True)]
    lattice = steps[0][:, None, None] + steps[1][:, None] + steps[2]  # modulo 256
    ends = np.searchsorted(_ENDS, np.arange(256), side="right").astype(np.uint8)
    phase = ends[lattice.ravel()]
    order = np.argsort(phase, kind="stable").astype(np.int32)
    width = shape.inputs * shape.kernel
    output = order // max(width, 1)
    rows = order // shape.kernel if shape.kernel > 1 else output
    columns = order - output * width
    cuts = np.cumsum(np.bincount(phase, minlength=PHASES))[:-1]
    parts = (np.split(whole, cuts) for whole in (order, rows, columns))
    return [Phase(*three) for three in zip(*parts, strict=True)]


class ContextModel:
    """Sums of the values of one layer that are known so far: by row and by column."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        rows = shape.outputs * (shape.inputs if shape.kernel > 1 else 1)
        columns = shape.inputs * shape.kernel
        self.row_sums, self.row_counts = np.zeros(rows), np.zeros(rows)
        self.column_sums, self.column_counts = np.zeros(columns), np.zeros(columns)
        self.total = self.squares = self.count = 0.0

    def learn(self, at: Phase, values: Floats) -> None:
        """Add values, whole numbers, of these weights."""
        if not len(values):
            return
        for lines, sums, counts in (
            (at.rows, self.row_sums, self.row_counts),
            (at.columns, self.column_sums, self.column_counts),
        ):
            sums += np.bincount(lines, values, len(sums))
            counts += np.bincount(lines, minlength=len(sums))
        self.total += float(values.sum())
        self.squares += float((values * values).sum())
        self.count += len(values)

    def flipped(self) -> ContextModel:
        """The same of values that are 0 or 1, with 0 and 1 exchanged."""
        other = ContextModel(self.shape)
        other.row_counts, other.column_counts = self.row_counts, self.column_counts
        other.row_sums = self.row_counts - self.row_sums
        other.column_sums = self.column_counts - self.column_sums
        other.total = other.squares = self.count - self.total
        other.count = self.count
        return other

    def mean(self, before: float) -> float:
        """The mean value, or `before` as long as nothing is known."""
        return (self.total + 2 * before) / (self.count + 2)

    def expect(self, at: Phase, before: float) -> Floats:
        """What the values of these weights are expected to be."""
        if not self.count or not len(at.places):
            return np.full(len(at.places), before)
        mean = self.mean(before)
        spread = max(self.squares / self.count - mean * mean, 1e-3 * mean)
        rows, columns = self._factors(mean, mean / spread)
        expected: Floats = rows[at.rows] * columns[at.columns]
        return expected

    def sign_odds(self, at: Phase) -> Floats:
        """Of values that are -1 or 1: how much more likely 1 is, as odds, for these weights."""
        outputs, inputs, kernel = self.shape
        if not self.count or not len(at.places):
            return np.ones(len(at.places))
        rows = _odds(self.row_sums, self.row_counts)
        if kernel > 1:
            sums, counts = (x.reshape(outputs, -1) for x in (self.row_sums, self.row_counts))
            rows = rows * np.repeat(_odds(sums.sum(1), counts.sum(1)), inputs)
        odds: Floats = rows[at.rows] * _odds(self.column_sums, self.column_counts)[at.columns]
        return odds

    def _factors(self, mean: float, weight: float) -> tuple[Floats, Floats]:
        outputs, inputs, kernel = self.shape
        sums, counts = self.column_sums.reshape(inputs, -1), self.column_counts.reshape(inputs, -1)
        if kernel == 1:
            rows = _ratios(self.row_sums, mean * self.row_counts, weight)
            return rows, (mean * _ratios(sums, mean * counts, weight)).ravel()
        by_input = _ratios(sums.sum(1), mean * counts.sum(1), weight)
        by_place = _ratios(sums.sum(0), mean * counts.sum(0), weight)
        columns = mean * by_input[:, None] * by_place
        columns = columns * _ratios(sums, counts * columns, weight)
        sums, counts = self.row_sums.reshape(outputs, -1), self.row_counts.reshape(outputs, -1)
        by_output = _ratios(sums.sum(1), mean * counts.sum(1), weight)
        rows = np.repeat(by_output[:, None], inputs, axis=1)
        if inputs > 1 and self.count >= len(self.row_sums):
            rows = rows * _ratios(sums, mean * counts * (rows * by_input), weight)
        return rows.ravel(), columns.ravel()


def _ratios(sums: Floats, expected: Floats, weight: float) -> Floats:
    """Sum by expected sum, for each, pulled to 1 by the prior that fits all (gamma-Poisson);
    `weight` scales the values so that their variance is their mean."""
    sums, expected = sums * weight, expected * weight
    excess = _sum((sums - expected) ** 2) - _sum(expected)
    if excess <= 0:
        return np.ones_like(sums)
    prior = min(max(_sum(expected * expected) / excess, 0.02), 1e4)
    return (sums + prior) / (expected + prior)


def _sum(values: Floats) -> float:
    """In an order of its own; that of other sums depends on the machine."""
    values = values.ravel()
    while len(values) > 512:
        half = len(values) // 2
        rest = values[2 * half :]
        values = values[:half] + values[half : 2 * half]
        values[: len(rest)] += rest
    return float(np.cumsum(values)[-1]) if len(values) else 0.0


def _odds(sums: Floats, counts: Floats) -> Floats:
    """1 against -1, for each from the sum and the number of those known, pulled to even odds by the
    prior that fits all of them (beta-binomial)."""
    excess = float((sums * sums).sum()) - float(counts.sum())
    pairs = float((counts * counts).sum()) - float(counts.sum())
    if excess <= 0 or pairs <= 0:
        return np.ones_like(sums)
    prior = max(pairs / excess, 1.0) + 0.1
    return (counts + sums + prior) / (counts - sums + prior)


def log_bins(values: Floats, steps: int) -> NDArray[np.int16]:
    """Positive numbers in bins of about equal ratio, 2 ** `steps` of them to an octave."""
    exponents = values.view(np.int64) >> (52 - steps)
    bins: NDArray[np.int16] = np.clip(exponents - _first(steps), 0, _MOST_BINS - 1).astype(np.int16)
    return bins


def middle(number: int, steps: int) -> float:
    """A value in the middle of a bin."""
    bits = np.array([2 * (number + _first(steps)) + 1], np.int64) << (51 - steps)
    return float(bits.view(np.float64)[0])


def _first(steps: int) -> int:
    """So that 1 stands in the middle."""
    return (1023 << steps) - _MOST_BINS // 2
