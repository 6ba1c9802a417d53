"""Raw results, a line of JSON each, appended as they come: an interrupted run goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compression.runs.statistics import Interval, paired_difference

Bits = NDArray[np.bool_]
Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Result:
    """One method with one of its variants in one cell on one model and split.

    `right` holds a bit per image in stored order, base64 of numpy's packbits, empty if it failed;
    then `reason` says why. `lost` images were right with the original and are wrong now, `gained`
    the other way round. `seconds` by the clock, `cpu_seconds` of the processor (0 if unknown) and
    `peak_mib` are of compressing alone.
    """

    method: str
    model: str
    cell: str
    variant: str
    split: str
    n: int = 0
    right: str = ""
    lost: int = 0
    gained: int = 0
    seconds: float = 0.0
    peak_mib: float = 0.0
    threads: int = 1
    facts: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    reason: str = ""
    cpu_seconds: float = 0.0

    @property
    def cost_seconds(self) -> float:
        """Of the processor if they were taken: on a busy machine the clock counts others' work."""
        return self.cpu_seconds or self.seconds

    @property
    def key(self) -> Key:
        return (self.method, self.model, self.cell, self.variant, self.split)

    @property
    def bits(self) -> Bits:
        """Whether each image is classified rightly, bool [n]."""
        packed = np.frombuffer(base64.b64decode(self.right), np.uint8)
        return np.unpackbits(packed, count=self.n).astype(np.bool_)


def pack_bits(right: Bits) -> str:
    """A bit per image as text."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def difference(before: Result, after: Result) -> Interval:
    """Top-1 of `after` less that of `before` on the same images, as a fraction."""
    a, b = before.bits, after.bits
    return paired_difference(int((~a & b).sum()), int((a & ~b).sum()), len(a))


def points(change: Interval) -> str:
    """A change of top-1 in points, with half the width of its interval."""
    return f"{100 * change.value:+.2f} ± {50 * (change.high - change.low):.2f}"


def read(path: Path) -> dict[Key, Result]:
    """All results of a file by key; a later line replaces an earlier one."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    results = (Result(**json.loads(line)) for line in lines if line.strip())
    return {result.key: result for result in results}


def append(path: Path, result: Result) -> None:
    """Add one result at the end of a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result), separators=(",", ":")) + "\n")


def best(results: Iterable[Result]) -> Result | None:
    """The result with the most right answers, the first of equals; None if all failed."""
    done = [r for r in results if not r.reason]
    return max(done, key=lambda r: int(r.bits.sum()), default=None)
