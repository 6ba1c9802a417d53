"""Symbols entropy-coded with adaptive tables, a whole array at once, by one interface both ways.

Asymmetric numeral systems (Duda, 2013). Every symbol is coded with the table of its bin, as in
context-adaptive coding; the symbols of a bin are coded together, then counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import constriction
import numpy as np
from numpy.typing import NDArray

Bins = NDArray[np.int16]
# What one symbol weighs in a table; guesses are finer. Part of the format.
_UNIT = 64


class Coder(Protocol):
    """Either direction of coding."""

    def __call__(
        self, bins: Bins, tables: FrequencyTables, symbols: Callable[[], NDArray[Any]]
    ) -> NDArray[np.int32]:
        """Code one symbol in each of the bins [n].

        Args:
            bins: which of the tables each symbol is coded with.
            symbols: gives them, [n]; only a writer calls it.

        Returns:
            The symbols [n]: those written, or those read.
        """
        ...


class FrequencyTables:
    """Frequencies of symbols, one table for every bin, made when it is first used.

    A table starts from what `guess` gives for its bin, weighed as `trust` symbols, and counts those
    that were coded with it.
    """

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
        """Count symbols [n] that were in this bin."""
        table = self._of[number]
        table += _UNIT * np.bincount(symbols, minlength=len(table))


@dataclass
class Writer:
    """Keeps what is to be coded, and codes it at the end: a stack gives back the last first."""

    kept: list[tuple[NDArray[np.int32], Any]] = field(default_factory=list)

    def __call__(
        self, bins: Bins, tables: FrequencyTables, symbols: Callable[[], NDArray[Any]]
    ) -> NDArray[np.int32]:
        values = symbols().astype(np.int32)
        order, ends = _by_bin(bins)
        ordered = values[order]
        for first, last in ends:
            part, number = ordered[first:last], int(bins[order[first]])
            self.kept.append((part, tables.model(number)))
            tables.learn(number, part)
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
        self, bins: Bins, tables: FrequencyTables, symbols: Callable[[], NDArray[Any]]
    ) -> NDArray[np.int32]:
        order, ends = _by_bin(bins)
        ordered = np.empty(len(bins), np.int32)
        for first, last in ends:
            number = int(bins[order[first]])
            part = self.coder.decode(tables.model(number), last - first)
            tables.learn(number, part)
            ordered[first:last] = part
        values = np.empty_like(ordered)
        values[order] = ordered
        return values


def _by_bin(bins: Bins) -> tuple[NDArray[np.int64], list[tuple[int, int]]]:
    """An order by bins, and where each begins and ends in it."""
    order = np.argsort(bins, kind="stable")
    ordered = bins[order]
    cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
    edges = [0, *cuts.tolist(), len(bins)] if len(bins) else []
    return order, list(pairwise(edges))
