"""Where the size and the speed of a run come from: numbers and sentences. No Streamlit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compression.catalogue.backends import INT8, ONNX, title
from compression.recipe.steps import Quantize
from compression.runs.results import Measurement, Run, SpeedupAnalysis
from compression.runs.statistics import Ratio
from dashboard.numbers import format as fmt
from dashboard.numbers.format import factor

_SAME = 0.02


@dataclass(frozen=True)
class Line:
    """One way to count the bytes of a model; None where it was not counted."""

    title: str
    original: int | None
    compressed: int | None

    @property
    def ratio(self) -> float | None:
        """Original / compressed."""
        return self.original / self.compressed if self.original and self.compressed else None


@dataclass(frozen=True)
class Speed:
    """Original / compressed in one backend: what was to be expected, and what was measured."""

    title: str
    expected: float | None
    measured: Ratio
    reasons: tuple[str, ...] = ()


PACKED = "Packed file"
_WAYS: dict[str, Callable[[Measurement], int | None]] = {
    "32-bit numbers": lambda m: m.dense_bytes,
    "The same, gzipped": lambda m: m.gzip_bytes,
    "ONNX file": lambda m: m.onnx_bytes,
    "ONNX file, int8": lambda m: m.int8_bytes,
    "Entropy bound": lambda m: m.entropy_bound_bytes,
    PACKED: lambda m: m.artifact_bytes,
}


def sizes(run: Run) -> tuple[Line, ...]:
    """The bytes of original and compressed model, every way they were counted."""
    both = run.baseline, run.compressed
    lines = (Line(name, *(of(m) if m else None for m in both)) for name, of in _WAYS.items())
    return tuple(line for line in lines if line.compressed is not None)


def speeds(run: Run) -> tuple[Speed, ...]:
    """Every backend that was accounted for; or only what was measured, in older runs."""
    if run.accounts:
        return tuple(_speed(account) for account in run.accounts)
    if run.timings:
        return tuple(Speed(title(t.backend), None, t.ratio) for t in run.timings)
    ratio = run.delta.latency_ratio if run.delta else None
    return (Speed(title(ONNX), None, ratio),) if ratio else ()


def _speed(account: SpeedupAnalysis) -> Speed:
    return Speed(title(account.backend), account.expected, account.measured, account.reasons)


def counts(run: Run) -> list[tuple[str, str]]:
    """Weights and work, before and after: the figure and what it is."""
    before, after = run.baseline, run.compressed
    if before is None or after is None:
        return []
    found = [
        (_change(before.parameters, after.parameters), "weights and other parameters"),
        (fmt.percent(after.sparsity), "of the weights left are zero"),
    ]
    if before.macs is not None and after.macs is not None:
        found.append((_change(before.macs, after.macs), "multiplications per image (MACs)"))
    return [*found, (fmt.number(after.bits_per_weight), "bits of file per original weight")]


def _change(before: int, after: int) -> str:
    if before == after:
        return fmt.count(after)
    return f"{fmt.count(before)} {fmt.ARROW} {fmt.count(after)}"


def size_notice(run: Run) -> str:
    """What made the file small, factor by factor, and how near it is to the least possible."""
    before, after = run.baseline, run.compressed
    if before is None or after is None:
        return ""
    total = before.dense_bytes / after.artifact_bytes
    fewer = before.dense_bytes / after.dense_bytes
    coded = after.dense_bytes / after.artifact_bytes
    change = "smaller" if total >= 1 else "larger"
    said = (
        f"{fmt.size(before.dense_bytes)} of 32-bit numbers become a file of "
        f"{fmt.size(after.artifact_bytes)}, {fmt.ratio(max(total, 1 / total))} {change}"
    )
    if fewer > 1 + _SAME:
        said += (
            f": {fmt.ratio(fewer)} by having fewer weights, times {fmt.ratio(coded)} by storing "
            "each in fewer bits"
        )
    return f"{said}. {_against_others(after)}"


def _against_others(after: Measurement) -> str:
    over = after.artifact_bytes / after.entropy_bound_bytes - 1 if after.entropy_bound_bytes else 0
    gzip = after.gzip_bytes / after.artifact_bytes
    said = f"gzip would have left {fmt.size(after.gzip_bytes)}"
    if gzip > 1 + _SAME:
        said += f", {fmt.ratio(gzip)} as much"
    off = f"{fmt.percent(abs(over))} {'below' if over < 0 else 'above'}"
    why = ": those around it say what to expect of each" if over < 0 else ""
    return (
        f"{said}; the file, with all it needs in it, is {off} the entropy bound, the least if "
        f"every weight were coded by itself{why}."
    )


def speed_notice(run: Run) -> str:
    """Whether each backend gained what was to be expected."""
    found = speeds(run)
    if not found:
        return "The speed of this run could not be measured."
    said = [_kept(speed) for speed in found]
    return " ".join(said)


def _kept(speed: Speed) -> str:
    measured = factor(speed.measured)
    if speed.expected is None:
        return f"{speed.title} is {measured}."
    wanted = fmt.ratio(speed.expected)
    if speed.measured.high < (1 - _SAME) * speed.expected:
        return f"{speed.title} is {measured}, where {wanted} could be expected."
    return f"{speed.title} is {measured}, as much as could be expected ({wanted})."


def reasons(found: Sequence[Speed]) -> list[tuple[str, tuple[str, ...]]]:
    """Why they gain no more than they do, under a heading each; once what holds for all of them."""
    common = [r for r in found[0].reasons if all(r in s.reasons for s in found)] if found else []
    if len(found) == 1:
        common = []
    said = [("What holds all of them back", tuple(common))]
    for speed in found:
        own = tuple(r for r in speed.reasons if r not in common)
        also = " besides" if common else ""
        said.append((f"What holds {speed.title} back{also}", own))
    return [(heading, sentences) for heading, sentences in said if sentences]


def missing(run: Run) -> tuple[str, ...]:
    """What cannot be shown of this run, and why."""
    after = run.compressed
    if after is None:
        return ()
    if not run.accounts and not run.timings:
        return (
            "It is not known what speed was to be expected of this run, nor how large its ONNX "
            "files are: it was measured before that was written down. Its recipe, run again, has "
            "both.",
        )
    said = []
    if after.onnx_bytes is None:
        said.append("There is no ONNX file of this run; its notes say why.")
    if not any(isinstance(step, Quantize) for step in run.recipe.steps):
        said.append("Its weights were not quantized, so it has no speed in int8.")
    elif all(t.backend != INT8 for t in run.timings):
        said.append("It could not be timed in int8; its notes say why.")
    return tuple(said)
