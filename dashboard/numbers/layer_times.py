"""Which layers take the time, and what holds each back. Numbers and sentences; no Streamlit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from compression.runs.results import LayerTime, Roof
from dashboard.numbers import format as fmt

MOST = 12
# Below this share of what the machine can do, neither memory nor arithmetic is what holds it back.
FAR_BELOW = 0.25
_SLOWER, _LITTLE = 1.05, 0.01
Bound = Literal["memory", "arithmetic", "overhead"]


@dataclass(frozen=True)
class Bar:
    """A layer, or all the shorter ones together: milliseconds in both models; None: not there."""

    name: str
    kind: str
    original: float | None
    compressed: float | None


@dataclass(frozen=True)
class Spot:
    """A layer of one model against what the machine can do.

    `intensity` is MACs for each byte moved, `rate` MACs a second; `share` is the rate over the
    most that memory or arithmetic allow at that intensity (the roofline; Williams et al., 2009).
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
    """How few layers take half of the time, which gains most, and which gained nothing."""
    before = sorted((t.original_ms for t in layers if t.original_ms), reverse=True)
    if not before:
        return "No layer could be timed by itself."
    half, needed = 0.0, 0
    while half < sum(before) / 2:
        half, needed = half + before[needed], needed + 1
    verb = "layer takes" if needed == 1 else "layers take"
    said = f"{needed} of {len(before)} {verb} half of the original's time."
    both = [(t.name, t.original_ms, t.compressed_ms) for t in layers]
    pairs = [(name, a, b) for name, a, b in both if a is not None and b is not None]
    if not pairs:
        return said
    name, a, b = max(pairs, key=lambda p: p[1] - p[2])
    if a > b * _SLOWER:
        said += f" {name} saves most: {fmt.milliseconds(a)} become {fmt.milliseconds(b)}."
    slower = [p for p in pairs if p[2] > _SLOWER * p[1]]
    if slower:
        several = "1 layer is" if len(slower) == 1 else f"{len(slower)} layers are"
        said += f" {several} slower than before."
    return said


def roof_for(roofs: Sequence[Roof], numbers: str) -> Roof | None:
    """The roof for that kind of number; with the fewest threads, as layers are timed."""
    fitting = [r for r in roofs if r.numbers == numbers]
    return min(fitting, key=lambda r: r.threads, default=None)


def spots(layers: Sequence[LayerTime], roof: Roof, *, compressed: bool) -> tuple[Spot, ...]:
    """The layers of one model that compute something and were timed, against that roof."""
    found = []
    for t in layers:
        figures = (t.original_ms, t.original_macs, t.original_bytes)
        if compressed:
            figures = (t.compressed_ms, t.compressed_macs, t.compressed_bytes)
        ms, macs, moved = figures
        if ms and macs and moved:
            found.append(_spot(t.name, ms, macs, moved, roof))
    return tuple(found)


def _spot(name: str, ms: float, macs: int, moved: int, roof: Roof) -> Spot:
    intensity, rate = macs / moved, 1000 * macs / ms
    from_memory = intensity * roof.bytes_per_second
    share = rate / min(from_memory, roof.macs_per_second)
    bound: Bound = "memory" if from_memory < roof.macs_per_second else "arithmetic"
    return Spot(name, intensity, rate, ms, share, bound if share >= FAR_BELOW else "overhead")


_HELD = {
    "memory": "is in layers that wait for memory",
    "arithmetic": "is in layers that wait for arithmetic",
    "overhead": "is in layers far from both limits, where starting and handing over take longer",
}


def roof_notice(found: Sequence[Spot]) -> str:
    """What holds the compressed model's time back, in shares of that time."""
    total = sum(s.milliseconds for s in found)
    if not total:
        return "No layer of the compressed model could be held against this machine."
    shares = {b: sum(s.milliseconds for s in found if s.bound == b) / total for b in _HELD}
    parts = [
        f"{fmt.percent(share)} {_HELD[bound]}"
        for bound, share in sorted(shares.items(), key=lambda kv: -kv[1])
        if share >= _LITTLE
    ]
    nearest = max(found, key=lambda s: s.share)
    return (
        f"Of the compressed model's time in these layers, {_joined(parts)}. {nearest.name} comes "
        f"nearest to what this machine can do, {fmt.percent(nearest.share)} of it."
    )


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
