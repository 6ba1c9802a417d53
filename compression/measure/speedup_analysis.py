"""What a speed-up could be, what it is, and why it is less: from what was measured here.

Expected is what the arithmetic promises: how many times fewer multiply-accumulates there are, those
by zeros left out, times how much faster this machine does them in the kernels' dtype. What
memory and arithmetic allow at most is the roofline of Williams et al., 2009.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from compression.catalogue.backends import BACKENDS, EAGER, Backend, DType
from compression.measure.layer_profile import Cost
from compression.measure.machine_peaks import MachinePeaks
from compression.runs.format import count, listed, percent, size
from compression.runs.results import SpeedupAnalysis, Timing

# Less than this share of what is expected is worth a reason.
SHORT = 0.98
# Zeros below this share of the multiplications explain nothing.
FEW_ZEROS = 0.05
# From this share of a call's time on, a part of it is what the call is bound by.
HALF = 0.5
# An operator is bound by being started if it takes no more than so many times the least.
LAUNCH = 4.0
# More threads should gain at least this share of what the original gains by them.
SHARED = 0.8


@dataclass(frozen=True)
class Workload:
    """What a model does in one call: all its multiply-accumulates, its layers with weights, and how
    many operators PyTorch starts for it.

    `floats` says why a layer stays in float32 in the int8 graph.
    """

    macs: int
    layers: Mapping[str, Cost]
    operators: int
    floats: Mapping[str, str] = field(default_factory=dict)

    @property
    def zeros(self) -> float:
        """The share of the multiply-accumulates that are by zeros."""
        total = sum(cost.macs for cost in self.layers.values())
        return 1 - sum(c.nonzero_macs for c in self.layers.values()) / total if total else 0.0

    def bytes(self, dtype: DType) -> int:
        """Bytes of weights and activations that a call in kernels of a dtype must move at least."""
        return sum(
            cost.bytes((DType.FLOAT32 if self.floats.get(name) else dtype).bytes)
            for name, cost in self.layers.items()
        )


@dataclass(frozen=True)
class SpeedupCase:
    """A timing, the work of both models, the machine's peaks, if they were measured, and the same
    timing on one thread."""

    timing: Timing
    before: Workload
    after: Workload
    machine: MachinePeaks | None = None
    alone: Timing | None = None

    @property
    def backend(self) -> Backend:
        """What ran the compressed model."""
        return BACKENDS[self.timing.backend]

    @property
    def seconds(self) -> float:
        """Of one call of the compressed model."""
        return self.timing.compressed.p50_ms / 1e3

    @property
    def rate(self) -> float | None:
        """Multiply-accumulates a second that this machine does at most in the kernels' dtype."""
        dtype = DType.INT8 if self.backend.dtype is DType.INT8 else DType.FLOAT32
        return self.machine.macs[dtype] if self.machine else None

    @property
    def arithmetic(self) -> float:
        """Least seconds that the multiply-accumulates take; 0 if no peaks are known."""
        if self.machine is None or self.rate is None:
            return 0.0
        slow = sum(c.macs for n, c in self.after.layers.items() if self.floats.get(n))
        return (self.after.macs - slow) / self.rate + slow / self.machine.macs[DType.FLOAT32]

    @property
    def floats(self) -> Mapping[str, str]:
        """Why layers of the compressed model stay in float32, by name."""
        return self.after.floats if self.backend.dtype is DType.INT8 else {}

    @property
    def moving(self) -> float:
        """Least seconds that weights and activations take to move; 0 if no peaks are known."""
        if self.machine is None:
            return 0.0
        moved = self.after.bytes(self.backend.dtype)
        return moved / self.machine.bytes_per_second(moved)

    @property
    def operators(self) -> int:
        """An engine fuses what is between layers into them; PyTorch starts one after the other."""
        return self.after.operators if self.timing.backend == EAGER else len(self.after.layers)

    @property
    def start(self) -> float | None:
        """Seconds that an operator with nothing to do takes; None where that was not measured."""
        return self.machine.start.get(self.backend.against) if self.machine else None


def expected(case: SpeedupCase) -> float:
    """Original / compressed, were speed a matter of arithmetic alone."""
    kept = max(1 - case.after.zeros, 1e-3)
    less = case.before.macs * (1 - case.before.zeros) / max(case.after.macs * kept, 1.0)
    if case.machine is None or case.rate is None:
        return less
    return less * case.rate / case.machine.macs[DType.FLOAT32]


def analyse_speedup(case: SpeedupCase) -> SpeedupAnalysis:
    """What was expected and what was measured; where that is less, the reasons that apply."""
    promised, timing = expected(case), case.timing
    reasons: list[str] = []
    if timing.ratio.high < SHORT * promised:
        reasons = [line for reason in BOTTLENECKS.values() if (line := reason(case))]
        reasons = reasons or [_rates(case)]
    return SpeedupAnalysis(
        backend=timing.backend,
        expected=promised,
        measured=timing.ratio,
        reasons=tuple(reasons),
    )


# Reasons: each a sentence if it applies, else None


def _zeros(case: SpeedupCase) -> str | None:
    zeros = case.after.zeros
    if zeros < FEW_ZEROS or case.backend.skips_zeros:
        return None
    return (
        f"{percent(zeros)} of its multiplications are by zeros, which stay in dense kernels and "
        "are done like any other: skipping them would cut the work by a factor of "
        f"{1 / max(1 - zeros, 1e-3):.3g}."
    )


def _unquantized(case: SpeedupCase) -> str | None:
    kept = {name: why for name, why in case.floats.items() if why and name in case.after.layers}
    if not kept:
        return None
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, why in kept.items():
        by_reason[why].append(name)
    share = sum(case.after.layers[n].macs for n in kept) / max(case.after.macs, 1)
    reasons = "; ".join(f"{listed(names)}: {why}" for why, names in by_reason.items())
    verb = "runs" if len(kept) == 1 else "run"
    return (
        f"{len(kept)} of its {len(case.after.layers)} layers {verb} in float32, with "
        f"{percent(share)} of the multiplications ({reasons})."
    )


def too_small(case: SpeedupCase) -> str | None:
    """Whether more threads gain less than they do for the original, in a sentence."""
    alone, timing, threads = case.alone, case.timing, case.timing.compressed.threads
    if alone is None or threads == 1:
        return None
    gain = alone.compressed.p50_ms / timing.compressed.p50_ms
    original = alone.baseline.p50_ms / timing.baseline.p50_ms
    if gain >= SHARED * original:
        return None
    each = case.after.macs / max(len(case.after.layers), 1)
    return (
        f"{threads} threads make the original {_times(original)} as fast as one does, and this "
        f"model {_times(gain)}: its layers, {count(each)} multiplications each, are too small to "
        "be shared out."
    )


def _memory(case: SpeedupCase) -> str | None:
    if case.moving <= case.arithmetic or case.moving < HALF * case.seconds or not case.machine:
        return None
    moved = case.after.bytes(case.backend.dtype)
    return (
        f"It is bound by memory: {size(moved)} of weights and activations pass in the "
        f"{_duration(case.seconds)} of a call, {size(moved / case.seconds)} a second, where this "
        f"machine copies {size(case.machine.bytes_per_second(moved))} a second; its "
        f"multiplications need only {_duration(case.arithmetic)}."
    )


def _overhead(case: SpeedupCase) -> str | None:
    least, start = max(case.arithmetic, case.moving), case.start
    if case.machine is None or case.seconds - least < HALF * case.seconds:
        return None
    each = case.seconds / case.operators
    best = (
        f"At the best this machine does, its arithmetic and its memory take {_duration(least)} of "
        f"the {_duration(case.seconds)} of a call at batch {case.timing.compressed.batch}"
    )
    if start is not None and each <= LAUNCH * start:
        return (
            f"{best}: it is bound by starting operators, {_duration(each)} for each of "
            f"{case.operators}, where one with nothing to do takes {_duration(start)}."
        )
    return (
        f"{best}; its {case.operators} operators, {count(case.after.macs / case.operators)} "
        f"multiplications and {_duration(each)} each, are too small to come near that."
    )


def _rates(case: SpeedupCase) -> str:
    """What is left to say: how fast the kernels are on either model."""
    before, after = case.timing.baseline, case.timing.compressed
    rates = (1e3 * case.before.macs / before.p50_ms, 1e3 * case.after.macs / after.p50_ms)
    line = (
        f"The original's layers do {count(rates[0])} multiplications a second, this model's "
        f"{count(rates[1])}"
    )
    return f"{line}; this machine's most is {count(case.rate)}." if case.rate else f"{line}."


BOTTLENECKS: dict[str, Callable[[SpeedupCase], str | None]] = {
    "zeros": _zeros,
    "unquantized": _unquantized,
    "threads": too_small,
    "memory": _memory,
    "overhead": _overhead,
}


def _times(value: float) -> str:
    return f"{value:.3g} times"


def _duration(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-4 else f"{1e6 * seconds:.3g} µs"
