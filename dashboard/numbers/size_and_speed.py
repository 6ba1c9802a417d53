"""Size counted in every usual way, and the speed-up analysis of a run, as numbers and sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compression.catalogue.backends import INT8, ONNX, title
from compression.runs.results import Measurement, Run, SpeedupAnalysis
from compression.runs.statistics import Ratio
from dashboard.numbers import format as fmt

_SAME = 0.02


@dataclass(frozen=True)
class Line:
    """One way to count the bytes of a model; None where it was not counted."""

    key: str
    title: str
    original: int | None
    compressed: int | None

    @property
    def ratio(self) -> float | None:
        """Original / compressed."""
        return self.original / self.compressed if self.original and self.compressed else None


@dataclass(frozen=True)
class Speed:
    """Original / compressed latency in one backend: expected, and measured.

    `reasons` are sentences on why it gains no more.
    """

    title: str
    expected: float | None
    measured: Ratio
    reasons: tuple[str, ...] = ()


_WAYS: dict[str, tuple[str, Callable[[Measurement], int | None]]] = {
    "dense": ("Dense, float32", lambda m: m.dense_bytes),
    "gzip": ("The same, gzipped", lambda m: m.gzip_bytes),
    "onnx": ("ONNX file", lambda m: m.onnx_bytes),
    "onnx-int8": ("ONNX file, int8", lambda m: m.int8_bytes),
    "entropy": ("Entropy bound", lambda m: m.entropy_bound_bytes),
    "packed": ("Packed file", lambda m: m.artifact_bytes),
}


def sizes(run: Run) -> tuple[Line, ...]:
    """The bytes of original and compressed model, every way the compressed one was counted."""
    models = run.baseline, run.compressed
    lines = (
        Line(key, title, *(of(m) if m else None for m in models))
        for key, (title, of) in _WAYS.items()
    )
    return tuple(line for line in lines if line.compressed is not None)


def speeds(run: Run) -> tuple[Speed, ...]:
    """Every backend that was analysed; or only what was measured, in older runs."""
    if run.accounts:
        return tuple(_speed(analysis) for analysis in run.accounts)
    if run.timings:
        return tuple(Speed(title(t.backend), None, t.ratio) for t in run.timings)
    ratio = run.delta.latency_ratio if run.delta else None
    return (Speed(title(ONNX), None, ratio),) if ratio else ()


def _speed(analysis: SpeedupAnalysis) -> Speed:
    return Speed(title(analysis.backend), analysis.expected, analysis.measured, analysis.reasons)


def counts(run: Run) -> list[tuple[str, str]]:
    """Parameters, zeros, MACs and bits per weight, before and after: each figure and its name."""
    before, after = run.baseline, run.compressed
    if before is None or after is None:
        return []
    figures = [
        (_change(before.parameters, after.parameters), "weights and other parameters"),
        (fmt.percent(after.sparsity), "of the remaining weights are zero"),
    ]
    if before.macs is not None and after.macs is not None:
        figures.append((_change(before.macs, after.macs), "MACs per image"))
    return [*figures, (fmt.number(after.bits_per_weight), "bits of file per original weight")]


def _change(before: int, after: int) -> str:
    if before == after:
        return fmt.count(after)
    return f"{fmt.count(before)} {fmt.ARROW} {fmt.count(after)}"


def size_notice(run: Run) -> str:
    """What made the file small, factor by factor, and how close it is to the entropy bound."""
    before, after = run.baseline, run.compressed
    if before is None or after is None:
        return ""
    total = before.dense_bytes / after.artifact_bytes
    fewer = before.dense_bytes / after.dense_bytes
    coded = after.dense_bytes / after.artifact_bytes
    change = "smaller" if total >= 1 else "larger"
    sentence = (
        f"{fmt.size(before.dense_bytes)} of float32 weights become a file of "
        f"{fmt.size(after.artifact_bytes)}, {fmt.ratio(max(total, 1 / total))} {change}"
    )
    if fewer > 1 + _SAME:
        sentence += (
            f": {fmt.ratio(fewer)} by having fewer weights, times {fmt.ratio(coded)} by storing "
            "each in fewer bits"
        )
    return f"{sentence}. {_against_others(after)}"


def _against_others(after: Measurement) -> str:
    over = after.artifact_bytes / after.entropy_bound_bytes - 1 if after.entropy_bound_bytes else 0
    gzip = after.gzip_bytes / after.artifact_bytes
    sentence = f"gzip would have left {fmt.size(after.gzip_bytes)}"
    if gzip > 1 + _SAME:
        sentence += f", {fmt.ratio(gzip)} as much"
    off = f"{fmt.percent(abs(over))} {'below' if over < 0 else 'above'}"
    why = ": the coder also learns from the weights around each" if over < 0 else ""
    return (
        f"{sentence}; the file, with everything it needs, is {off} the entropy bound, the least "
        f"possible if every weight is coded on its own{why}."
    )


def speed_notice(run: Run) -> str:
    """Whether each backend gained what was to be expected."""
    sentences = [_against_expected(speed) for speed in speeds(run)]
    return " ".join(sentences) or "The speed of this run could not be measured."


def _against_expected(speed: Speed) -> str:
    measured = fmt.factor(speed.measured)
    if speed.expected is None:
        return f"{speed.title} is {measured}."
    expected = fmt.ratio(speed.expected)
    if speed.measured.high < (1 - _SAME) * speed.expected:
        return f"{speed.title} is {measured}, where {expected} could be expected."
    return f"{speed.title} is {measured}, as much as could be expected ({expected})."


def reasons(speeds: Sequence[Speed]) -> list[tuple[str, tuple[str, ...]]]:
    """Why they gain no more: a heading and its sentences; what all share stands first, once."""
    common: list[str] = []
    if len(speeds) > 1:
        common = [r for r in speeds[0].reasons if all(r in s.reasons for s in speeds)]
    groups = [("What holds all of them back", tuple(common))]
    for speed in speeds:
        rest = tuple(r for r in speed.reasons if r not in common)
        what = "What else" if common else "What"
        groups.append((f"{what} holds {speed.title} back", rest))
    return [(heading, sentences) for heading, sentences in groups if sentences]


def missing(run: Run) -> tuple[str, ...]:
    """What cannot be shown of this run, and why."""
    after = run.compressed
    if after is None:
        return ()
    if not run.accounts and not run.timings:
        return (
            "This run was measured before expected speeds and ONNX file sizes were recorded. Run "
            "its recipe again to get both.",
        )
    sentences = []
    if after.onnx_bytes is None:
        sentences.append("There is no ONNX file of this run; its notes say why.")
    if not run.recipe.quantizes:
        sentences.append("Its weights were not quantized, so it has no speed in int8.")
    elif all(t.backend != INT8 for t in run.timings):
        sentences.append("It could not be timed in int8; its notes say why.")
    return tuple(sentences)
