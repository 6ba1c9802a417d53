"""Codes of weights, entropy-coded with what is known of the weights around them.

Each weight is a flag (is it zero?), and if not, a size and a sign. Every one of the three is coded
with a table of frequencies chosen by what `context_model` expects there, as in context-adaptive
coding of networks (DeepCABAC; Wiedemann et al., 2020). Whole rounds are coded at once, so that
nothing here runs weight by weight. One pass serves both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compression.export.packed.context_model import (
    PHASES,
    ContextModel,
    Phase,
    Shape,
    log_bins,
    phases,
)
from compression.export.packed.initial_tables import (
    ENDINGS,
    FLAG_STEPS,
    LEFT,
    SIGN_STEPS,
    SIZE_STEPS,
    flag_tables,
    low_bits,
    sign_tables,
    size_tables,
)
from compression.export.packed.symbol_coder import Bins, Coder, FrequencyTables

Values = NDArray[np.int16]
# Weights of layers that are coded side by side, at most; part of the format.
_GROUP = 1 << 22


@dataclass(frozen=True)
class Layer:
    """A weight to code: its shape, and how many sizes a value can have, 0 among them; 1 and no sign
    for a mask."""

    shape: Shape
    sizes: int

    @property
    def count(self) -> int:
        """Number of its values."""
        return self.shape.outputs * self.shape.inputs * self.shape.kernel


def code(
    layers: Sequence[Layer],
    values: Sequence[Values],
    coder: Coder,
    guesses: Callable[[Sequence[Layer], Sequence[Values]], tuple[float, float]],
) -> None:
    """Code the values of layers. A reader fills them in.

    Args:
        values: of each layer, flat, 0 where nothing is: the shape's product of entries.
        coder: a `Writer` or a `Reader`.
        guesses: the share of values that are not 0 and their mean size, for a group of layers.
    """
    layers, values = _pieces(layers, values)
    flags, signs = flag_tables(), sign_tables()
    sizes: dict[int, tuple[FrequencyTables, FrequencyTables]] = {}
    for group in _groups(layers):
        members, parts = [layers[i] for i in group], [values[i] for i in group]
        count = members[0].sizes
        if count not in sizes:
            sizes[count] = size_tables(count - 1)
        layer_coder = LayerCoder(members, parts, coder, *guesses(members, parts))
        layer_coder.code(flags, *sizes[count], signs)


def _pieces(layers: Sequence[Layer], values: Sequence[Values]) -> tuple[list[Layer], list[Values]]:
    """Layers in pieces that are small enough; the values of a piece are a view."""
    pieces, parts = [], []
    for layer, whole in zip(layers, values, strict=True):
        width = layer.shape.inputs * layer.shape.kernel
        step = max(_GROUP // max(width, 1), 1)
        for first in range(0, layer.shape.outputs, step):
            outputs = min(step, layer.shape.outputs - first)
            pieces.append(Layer(layer.shape._replace(outputs=outputs), layer.sizes))
            parts.append(whole[first * width : (first + outputs) * width])
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

    def code(
        self,
        flags: FrequencyTables,
        sizes: FrequencyTables,
        details: FrequencyTables,
        signs: FrequencyTables,
    ) -> None:
        """Code flags of all rounds, then sizes and signs of what is not 0."""
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
        bins = []
        for model, phase in zip(self.nonzero, at, strict=True):
            if model.mean(self.density) > 0.5:
                expected = model.flipped().expect(phase, 1 - self.density)
                bins.append(~log_bins(expected, FLAG_STEPS))
            else:
                bins.append(log_bins(model.expect(phase, self.density), FLAG_STEPS))
        flags = self._code_symbols(at, bins, tables, lambda values: values != 0)
        for model, phase, part in zip(self.nonzero, at, flags, strict=True):
            model.learn(phase, part.astype(np.float64))
        return [a.only(part != 0) for a, part in zip(at, flags, strict=True)]

    def _sizes(
        self,
        at: Sequence[Phase],
        ends: Sequence[_Ends],
        tables: FrequencyTables,
        details: FrequencyTables,
    ) -> list[NDArray[np.int32]]:
        if self.most == 1:
            return [np.ones(len(a.places), np.int32) for a in at]
        bins = []
        for model, end, phase in zip(self.sizes, ends, at, strict=True):
            expected = log_bins(model.expect(phase, self.size), SIZE_STEPS)
            bins.append(expected * ENDINGS + end.classes(phase.places))
        low = low_bits(self.most)
        sizes = self._code_symbols(at, bins, tables, lambda values: (np.abs(values) - 1) >> low)
        if low:
            mask = (1 << low) - 1
            least = self._code_symbols(
                at, bins, details, lambda values: (np.abs(values) - 1) & mask
            )
            sizes = [(s << low) + d for s, d in zip(sizes, least, strict=True)]
        sizes = [s + 1 for s in sizes]
        for model, end, phase, part in zip(self.sizes, ends, at, sizes, strict=True):
            model.learn(phase, part.astype(np.float64))
            end.learn(phase.places, part)
        return sizes

    def _signs(self, at: Sequence[Phase], tables: FrequencyTables) -> list[NDArray[np.int32]]:
        bins = [log_bins(k.sign_odds(a), SIGN_STEPS) for k, a in zip(self.signs, at, strict=True)]
        signs = self._code_symbols(at, bins, tables, lambda values: values > 0)
        signs = [2 * s - 1 for s in signs]
        for model, phase, part in zip(self.signs, at, signs, strict=True):
            model.learn(phase, part.astype(np.float64))
        return signs

    def _code_symbols(
        self,
        at: Sequence[Phase],
        bins: Sequence[Bins],
        tables: FrequencyTables,
        symbol_of: Callable[[Values], NDArray[Any]],
    ) -> list[NDArray[np.int32]]:
        """Code one symbol of each value, of all layers together."""

        def symbols() -> NDArray[Any]:
            parts = [v[a.places] for v, a in zip(self.values, at, strict=True)]
            return symbol_of(np.concatenate(parts))

        coded = self.coder(np.concatenate(bins), tables, symbols)
        return np.split(coded, np.cumsum([len(c) for c in bins])[:-1])

    def _put(self, at: Sequence[Phase], new: Sequence[NDArray[np.int32]]) -> None:
        for values, phase, part in zip(self.values, at, new, strict=True):
            values[phase.places] = part


class _Ends:
    """Scales are bins so that the largest weight of an output channel is at the end of its grid:
    how many of its weights may still be that one."""

    def __init__(self, shape: Shape, most: int, places: Sequence[NDArray[np.int32]]) -> None:
        self._width, self._most = shape.inputs * shape.kernel, most
        self._left = np.zeros(shape.outputs, np.int64)
        for some in places:
            self._left += np.bincount(some // max(self._width, 1), minlength=shape.outputs)
        self._reached = np.zeros(shape.outputs, bool)

    def classes(self, places: NDArray[np.int32]) -> Bins:
        """0: the end was reached; else by how many weights are left to come."""
        left = np.searchsorted(LEFT, self._left, side="right") + 1
        classes: Bins = np.where(self._reached, 0, left).astype(np.int16)[places // self._width]
        return classes

    def learn(self, places: NDArray[np.int32], sizes: NDArray[np.int32]) -> None:
        outputs = places // max(self._width, 1)
        self._left -= np.bincount(outputs, minlength=len(self._left))
        self._reached[outputs[sizes == self._most]] = True
