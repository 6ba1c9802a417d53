"""Codes of weights, entropy-coded with what is known of the weights around them.

Each weight is a flag (is it zero?), and if not, a size and a sign. Every one of the three is coded
by asymmetric numeral systems (Duda, 2013) with a table of frequencies chosen by what `contexts`
expects there, as in context-adaptive coding of networks (DeepCABAC; Wiedemann et al., 2020); the
tables start from a model and count what was seen. Whole rounds are coded at once, so that nothing
here runs weight by weight. One walk serves both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import constriction
import numpy as np
from numpy.typing import NDArray

from compression.export.packed.context_model import (
    PHASES,
    ContextModel,
    Phase,
    Shape,
    log_bins,
    middle,
    phases,
)

Values = NDArray[np.int16]
Bins = NDArray[np.int16]
# How finely expectations are told apart, and what the first guess of a table weighs. All numbers
# here are part of the format.
_FLAG_STEPS, _SIZE_STEPS, _LEAN_STEPS = 3, 2, 2
_FLAG_TRUST, _SIZE_TRUST, _SIGN_TRUST = 150, 12, 16
_UNIT = 64  # what one count weighs in a table; guesses are finer
_GROUP = 1 << 22
_TABLE_BITS = 5
_LEFT = (2, 4, 10)
_ENDINGS = len(_LEFT) + 2


@dataclass(frozen=True)
class Layer:
    """A weight to code: its shape, and how many sizes a value can have, 0 among them; 1 and no sign
    for a mask."""

    shape: Shape
    sizes: int

    @property
    def count(self) -> int:
        return self.shape.outputs * self.shape.inputs * self.shape.kernel


class Coder(Protocol):
    """Either direction: gives back the symbols, which a writer is told and a reader finds."""

    def __call__(
        self, chosen: Bins, tables: FrequencyTables, told: Callable[[], NDArray[Any]]
    ) -> NDArray[np.int32]: ...


class FrequencyTables:
    """Frequencies of symbols, one table for every bin, made when it is first asked for."""

    def __init__(self, guess: Callable[[int], NDArray[np.float64]], trust: int) -> None:
        self._guess, self._trust = guess, trust
        self._of: dict[int, NDArray[np.int64]] = {}

    def model(self, number: int) -> Any:
        """The coder's model for symbols in this bin."""
        if number not in self._of:
            share = self._guess(number)
            share = share / np.cumsum(share)[-1]
            self._of[number] = np.rint(share * (self._trust * _UNIT)).astype(np.int64) + 1
        table = self._of[number]
        return constriction.stream.model.Categorical(table / int(table.sum()), perfect=False)

    def learn(self, number: int, symbols: NDArray[np.int32]) -> None:
        """Count symbols that were in this bin."""
        table = self._of[number]
        table += _UNIT * np.bincount(symbols, minlength=len(table))


@dataclass
class Writer:
    """Keeps what is to be coded, and codes it at the end: a stack gives back the last first."""

    kept: list[tuple[NDArray[np.int32], Any]] = field(default_factory=list)

    def __call__(
        self, chosen: Bins, tables: FrequencyTables, told: Callable[[], NDArray[Any]]
    ) -> NDArray[np.int32]:
        values = told().astype(np.int32)
        order, ends = _sorted(chosen)
        ordered = values[order]
        for first, last in ends:
            symbols, number = ordered[first:last], int(chosen[order[first]])
            self.kept.append((symbols, tables.model(number)))
            tables.learn(number, symbols)
        return values

    def flush(self, coder: Any) -> None:
        """Put everything on a coder."""
        for symbols, model in reversed(self.kept):
            coder.encode_reverse(symbols, model)


@dataclass(frozen=True)
class Reader:
    """Takes symbols off a coder."""

    coder: Any

    def __call__(
        self, chosen: Bins, tables: FrequencyTables, told: Callable[[], NDArray[Any]]
    ) -> NDArray[np.int32]:
        order, ends = _sorted(chosen)
        ordered = np.empty(len(chosen), np.int32)
        for first, last in ends:
            number = int(chosen[order[first]])
            symbols = self.coder.decode(tables.model(number), last - first)
            tables.learn(number, symbols)
            ordered[first:last] = symbols
        values = np.empty_like(ordered)
        values[order] = ordered
        return values


def _sorted(chosen: Bins) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
    """An order by bins, and where each begins and ends in it."""
    order = np.argsort(chosen, kind="stable")
    ordered = chosen[order]
    cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    edges = [0, *cuts.tolist(), len(chosen)] if len(chosen) else []
    return order, list(pairwise(edges))


def code(
    layers: Sequence[Layer],
    values: Sequence[Values],
    coder: Coder,
    guesses: Callable[[Sequence[Layer], Sequence[Values]], tuple[float, float]],
) -> None:
    """Code the values of layers, each flat and 0 where nothing is. A reader fills them in.

    `guesses` gives the share of values that are not 0 and their mean size, for a group of layers.
    """
    layers, values = _pieces(layers, values)
    flags = FrequencyTables(_flag_guess, _FLAG_TRUST)
    signs = FrequencyTables(_sign_guess, _SIGN_TRUST)
    sizes: dict[int, tuple[FrequencyTables, FrequencyTables]] = {}
    for group in _groups(layers):
        own, theirs = [layers[i] for i in group], [values[i] for i in group]
        count = own[0].sizes
        if count not in sizes:
            low = _low_bits(count - 1)
            sizes[count] = (
                FrequencyTables(_size_guess(count - 1, low), _SIZE_TRUST),
                FrequencyTables(_detail_guess(low), _SIZE_TRUST),
            )
        walk = LayerCoder(own, theirs, coder, *guesses(own, theirs))
        walk.go(flags, *sizes[count], signs)


def _pieces(layers: Sequence[Layer], values: Sequence[Values]) -> tuple[list[Layer], list[Values]]:
    """Layers in pieces that are small enough; the values of a piece are a view."""
    pieces, parts = [], []
    for layer, own in zip(layers, values, strict=True):
        width = layer.shape.inputs * layer.shape.kernel
        step = max(_GROUP // max(width, 1), 1)
        for first in range(0, layer.shape.outputs, step):
            outputs = min(step, layer.shape.outputs - first)
            pieces.append(Layer(layer.shape._replace(outputs=outputs), layer.sizes))
            parts.append(own[first * width : (first + outputs) * width])
    return pieces, parts


def _groups(layers: Sequence[Layer]) -> Iterator[list[int]]:
    """Layers coded side by side: of the same sizes, and not too many weights together."""
    by_sizes: dict[int, list[int]] = {}
    for i, layer in enumerate(layers):
        by_sizes.setdefault(layer.sizes, []).append(i)
    for members in by_sizes.values():
        group: list[int] = []
        for i in members:
            if group and sum(layers[j].count for j in group) + layers[i].count > _GROUP:
                yield group
                group = []
            group.append(i)
        yield group


class LayerCoder:
    """Round by round through a group of layers."""

    def __init__(
        self,
        layers: Sequence[Layer],
        values: Sequence[Values],
        coder: Coder,
        density: float,
        size: float,
    ) -> None:
        self.values, self.coder = values, coder
        self.density, self.size = density, size
        self.layers, self.most = layers, layers[0].sizes - 1
        self.visits = [phases(layer.shape) for layer in layers]
        self.nonzero = [ContextModel(layer.shape) for layer in layers]
        self.sizes = [ContextModel(layer.shape) for layer in layers]
        self.signs = [ContextModel(layer.shape) for layer in layers]

    def go(
        self,
        flags: FrequencyTables,
        sizes: FrequencyTables,
        details: FrequencyTables,
        signs: FrequencyTables,
    ) -> None:
        there = [
            self._flags([visit[phase] for visit in self.visits], flags) for phase in range(PHASES)
        ]
        if self.most == 0:
            for at in there:
                self._put(at, [np.ones(len(a.places), np.int32) for a in at])
            return
        rows = [
            _Ends(layer.shape, self.most, [at[i].places for at in there])
            for i, layer in enumerate(self.layers)
        ]
        for at in there:
            size = self._sizes(at, rows, sizes, details)
            sign = self._signs(at, signs)
            self._put(at, [a * b for a, b in zip(size, sign, strict=True)])

    def _flags(self, at: Sequence[Phase], tables: FrequencyTables) -> list[Phase]:
        """Where the values are that are not 0. What is rarer of the two is what is expected."""
        chosen = []
        for known, seen in zip(self.nonzero, at, strict=True):
            if known.mean(self.density) > 0.5:
                expected = known.flipped().expect(seen, 1 - self.density)
                chosen.append(~log_bins(expected, _FLAG_STEPS))
            else:
                chosen.append(log_bins(known.expect(seen, self.density), _FLAG_STEPS))
        flags = self._ask(at, chosen, tables, lambda values: values != 0)
        for known, seen, found in zip(self.nonzero, at, flags, strict=True):
            known.learn(seen, found.astype(np.float64))
        return [a.only(found != 0) for a, found in zip(at, flags, strict=True)]

    def _sizes(
        self,
        at: Sequence[Phase],
        ends: Sequence[_Ends],
        tables: FrequencyTables,
        details: FrequencyTables,
    ) -> list[NDArray[np.int32]]:
        if self.most == 1:
            return [np.ones(len(a.places), np.int32) for a in at]
        chosen = []
        for known, end, seen in zip(self.sizes, ends, at, strict=True):
            expected = log_bins(known.expect(seen, self.size), _SIZE_STEPS)
            chosen.append(expected * _ENDINGS + end.classes(seen.places))
        low = _low_bits(self.most)
        sizes = self._ask(at, chosen, tables, lambda values: (np.abs(values) - 1) >> low)
        if low:
            mask = (1 << low) - 1
            least = self._ask(at, chosen, details, lambda values: (np.abs(values) - 1) & mask)
            sizes = [(s << low) + d for s, d in zip(sizes, least, strict=True)]
        sizes = [s + 1 for s in sizes]
        for known, end, seen, found in zip(self.sizes, ends, at, sizes, strict=True):
            known.learn(seen, found.astype(np.float64))
            end.learn(seen.places, found)
        return sizes

    def _signs(self, at: Sequence[Phase], tables: FrequencyTables) -> list[NDArray[np.int32]]:
        chosen = [log_bins(k.lean(a), _LEAN_STEPS) for k, a in zip(self.signs, at, strict=True)]
        signs = self._ask(at, chosen, tables, lambda values: values > 0)
        signs = [2 * s - 1 for s in signs]
        for known, seen, found in zip(self.signs, at, signs, strict=True):
            known.learn(seen, found.astype(np.float64))
        return signs

    def _ask(
        self,
        at: Sequence[Phase],
        chosen: Sequence[Bins],
        tables: FrequencyTables,
        seen: Callable[[Values], NDArray[Any]],
    ) -> list[NDArray[np.int32]]:
        """Code one thing of all layers together."""

        def told() -> NDArray[Any]:
            return seen(np.concatenate([v[a.places] for v, a in zip(self.values, at, strict=True)]))

        found = self.coder(np.concatenate(chosen), tables, told)
        return np.split(found, np.cumsum([len(c) for c in chosen])[:-1])

    def _put(self, at: Sequence[Phase], found: Sequence[NDArray[np.int32]]) -> None:
        for values, seen, new in zip(self.values, at, found, strict=True):
            values[seen.places] = new


class _Ends:
    """Scales are chosen so that the largest weight of an output channel is at the end of its grid:
    how many of its weights may still be that one."""

    def __init__(self, shape: Shape, most: int, places: Sequence[NDArray[np.int32]]) -> None:
        self._width, self._most = shape.inputs * shape.kernel, most
        self._left = np.zeros(shape.outputs, np.int64)
        for some in places:
            self._left += np.bincount(some // max(self._width, 1), minlength=shape.outputs)
        self._reached = np.zeros(shape.outputs, bool)

    def classes(self, places: NDArray[np.int32]) -> Bins:
        """0: the end was reached; else by how many weights are left to come."""
        left = np.searchsorted(_LEFT, self._left, side="right") + 1
        found: Bins = np.where(self._reached, 0, left).astype(np.int16)[places // self._width]
        return found

    def learn(self, places: NDArray[np.int32], sizes: NDArray[np.int32]) -> None:
        outputs = places // max(self._width, 1)
        self._left -= np.bincount(outputs, minlength=len(self._left))
        self._reached[outputs[sizes == self._most]] = True


def _low_bits(most: int) -> int:
    """Bits of a size that are coded apart, so that tables stay short and are learned fast."""
    return max(most.bit_length() - _TABLE_BITS, 0)


def _flag_guess(number: int) -> NDArray[np.float64]:
    """Bins of the rarer flag: of those that are not 0, or of zeros below 0."""
    flipped = number < 0
    rare = min(max(middle(~number if flipped else number, _FLAG_STEPS), 1e-5), 0.9)
    return np.array([rare, 1 - rare] if flipped else [1 - rare, rare])


def _size_guess(most: int, low: int) -> Callable[[int], NDArray[np.float64]]:
    """A geometric distribution with the expected mean, and a little of every size."""

    def guess(number: int) -> NDArray[np.float64]:
        decay = _decay(number)
        share = np.cumprod(np.full(most, decay)) / decay
        whole = np.add.reduceat(share, np.arange(0, most, 1 << low))
        found: NDArray[np.float64] = whole / np.cumsum(whole)[-1] + 0.02 / len(whole)
        return found

    return guess


def _detail_guess(low: int) -> Callable[[int], NDArray[np.float64]]:
    return lambda number: np.cumprod(np.full(1 << low, _decay(number)))


def _decay(number: int) -> float:
    more = max(middle(number // _ENDINGS, _SIZE_STEPS) - 1, 0.05)
    return more / (1 + more)


def _sign_guess(number: int) -> NDArray[np.float64]:
    ratio = middle(number, _LEAN_STEPS)
    return np.array([1 / (1 + ratio), ratio / (1 + ratio)])
