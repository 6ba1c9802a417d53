"""Which layers take the time, and what limits each: memory, arithmetic or overhead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from compression.runs.results import LayerTime, Roof
from dashboard.numbers import format as fmt

MOST = 12
# Below this share of the roofline, neither memory nor arithmetic is what limits a layer.
FAR_BELOW = 0.25
_SLOWER, _LITTLE = 1.05, 0.01
Bound = Literal["memory", "arithmetic", "overhead"]


@dataclass(frozen=True)
class Bar:
    """A layer, or all the shorter ones together: milliseconds in both models; None: not timed."""

    name: str
    kind: str
    original: float | None
    compressed: float | None


@dataclass(frozen=True)
class Spot:
    """A layer of one model on the machine's roofline (Williams et al., 2009).

    `intensity` is MACs per byte moved, `rate` MACs per second; `share` is the rate over the most
    that memory or arithmetic allow at that intensity.
    """

    name: str
    intensity: float
    rate: float
    milliseconds: float
    share: float
    bound: Bound


def bars(layers: Sequence[LayerTime], most: int = MOST) -> tuple[Bar, ...]:
    """The layers that take longest in either model, longest first, and the rest together."""
    timed = [t for t in layers if t.original_ms is not None or t.compressed_ms is not None]
    ordered = sorted(timed, key=lambda t: -max(t.original_ms or 0.0, t.compressed_ms or 0.0))
    shown = [Bar(t.name, t.kind, t.original_ms, t.compressed_ms) for t in ordered[:most]]
    rest = ordered[most:]
    if rest:
        sums = (_total(t.original_ms for t in rest), _total(t.compressed_ms for t in rest))
        name = "1 shorter layer" if len(rest) == 1 else f"{len(rest)} shorter layers"
        shown.append(Bar(name, "together", *sums))
    return tuple(shown)


def _total(times: Iterable[float | None]) -> float:
    return sum(t for t in times if t is not None)


def layers_notice(layers: Sequence[LayerTime]) -> str:
    """How few layers take half of the time, which one gains most, and how many got slower."""
    before = sorted((t.original_ms for t in layers if t.original_ms), reverse=True)
    if not before:
        return "No layer could be timed by itself."
    half, needed = 0.0, 0
    while half < sum(before) / 2:
        half, needed = half + before[needed], needed + 1
    verb = "layer takes" if needed == 1 else "layers take"
    sentences = f"{needed} of {len(before)} {verb} half of the original's time."
    both = [(t.name, t.original_ms, t.compressed_ms) for t in layers]
    pairs = [(name, a, b) for name, a, b in both if a is not None and b is not None]
    if not pairs:
        return sentences
    name, a, b = max(pairs, key=lambda p: p[1] - p[2])
    if a > b * _SLOWER:
        sentences += f" {name} saves most: {fmt.milliseconds(a)} become {fmt.milliseconds(b)}."
    slower = [p for p in pairs if p[2] > _SLOWER * p[1]]
    if slower:
        several = "1 layer is" if len(slower) == 1 else f"{len(slower)} layers are"
        sentences += f" {several} slower than before."
    return sentences


def roof_for(roofs: Sequence[Roof], dtype: str) -> Roof | None:
    """The roof for that dtype with the fewest threads, which is how layers are timed."""
    matching = [r for r in roofs if r.numbers == dtype]
    return min(matching, key=lambda r: r.threads, default=None)


def spots(layers: Sequence[LayerTime], roof: Roof, *, compressed: bool) -> tuple[Spot, ...]:
    """The layers of one model that compute something and were timed, under that roof."""
    placed = []
    for t in layers:
        figures = (t.original_ms, t.original_macs, t.original_bytes)
        if compressed:
            figures = (t.compressed_ms, t.compressed_macs, t.compressed_bytes)
        ms, macs, moved = figures
        if ms and macs and moved:
            placed.append(_spot(t.name, ms, macs, moved, roof))
    return tuple(placed)


def _spot(name: str, ms: float, macs: int, moved: int, roof: Roof) -> Spot:
    intensity, rate = macs / moved, 1000 * macs / ms
    from_memory = intensity * roof.bytes_per_second
    share = rate / min(from_memory, roof.macs_per_second)
    bound: Bound = "memory" if from_memory < roof.macs_per_second else "arithmetic"
    return Spot(name, intensity, rate, ms, share, bound if share >= FAR_BELOW else "overhead")


_LIMITED = {
    "memory": "is in memory-bound layers",
    "arithmetic": "is in compute-bound layers",
    "overhead": "is in layers far from both limits, where overhead dominates",
}


def roof_notice(spots: Sequence[Spot]) -> str:
    """What limits the compressed model, in shares of its time."""
    total = sum(s.milliseconds for s in spots)
    if not total:
        return "No layer of the compressed model could be compared with this machine's limits."
    shares = {b: sum(s.milliseconds for s in spots if s.bound == b) / total for b in _LIMITED}
    parts = [
        f"{fmt.percent(share)} {_LIMITED[bound]}"
        for bound, share in sorted(shares.items(), key=lambda kv: -kv[1])
        if share >= _LITTLE
    ]
    nearest = max(spots, key=lambda s: s.share)
    return (
        f"Of the compressed model's time in these layers, {_joined(parts)}. {nearest.name} comes "
        f"closest to the limits of this machine, at {fmt.percent(nearest.share)} of them."
    )


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
