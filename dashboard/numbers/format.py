"""Numbers as the page shows them: three significant digits, a unit, no break between the two."""

from __future__ import annotations

import math
import re

from compression.runs.format import about as about
from compression.runs.format import duration as duration
from compression.runs.format import scaled
from compression.runs.format import threads as threads
from compression.runs.results import Latency
from compression.runs.statistics import Interval, Ratio

DASH = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_GAP = "\N{NO-BREAK SPACE}"
TIMES = "\N{MULTIPLICATION SIGN}"
ARROW = "\N{RIGHTWARDS ARROW}"


def number(value: float, digits: int = 3) -> str:
    """`digits` significant digits, without an exponent between 0.0001 and 10 million."""
    if not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if exponent < -4 or exponent > 6:
        text = f"{value:.{digits - 1}e}"
    else:
        text = f"{rounded:,.{max(0, digits - 1 - exponent)}f}"
    return text.replace("-", _MINUS)


def _with_unit(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return DASH
    short, prefix = scaled(value)
    whole = not prefix and float(value).is_integer()
    text = f"{value:,.0f}" if whole else number(short)
    return f"{text}{_GAP}{prefix}{unit}".rstrip(_GAP)


def size(bytes_: float) -> str:
    """Bytes, in decimal units."""
    return _with_unit(bytes_, "B")


def count(value: float) -> str:
    """How many, with k, M or G for thousands, millions or thousand millions."""
    return _with_unit(value, "")


def percent(fraction: float) -> str:
    """A fraction in percent. What is not quite all or nothing is never shown as if it were."""
    if not math.isfinite(fraction):
        return DASH
    if 0.9995 <= fraction < 1:
        return f"> 99.9{_GAP}%"
    if 0 < fraction < 5e-5:
        return f"< 0.01{_GAP}%"
    return f"{number(100 * fraction)}{_GAP}%"


def points(difference: float) -> str:
    """A signed difference of two fractions, in percentage points."""
    if not math.isfinite(difference):
        return DASH
    value = round(100 * difference, 2)
    return f"{_signed(value)} points" if value else "0 points"


def lost_points(difference: float) -> str:
    """A loss of a fraction, in percentage points, without a sign."""
    value = round(100 * difference, 2)
    return f"{value:g} {'point' if value == 1 else 'points'}"


def _signed(value: float) -> str:
    text = f"{abs(value):.2f}" if abs(value) < 10 else number(abs(value))
    return f"+{text}" if value > 0 else f"{_MINUS}{text}" if value < 0 else text


def milliseconds(value: float) -> str:
    """A time in milliseconds."""
    return f"{number(value)}{_GAP}ms"


def seconds(value: float) -> str:
    """A short time in seconds."""
    return f"{number(value)}{_GAP}s"


def ratio(value: float) -> str:
    """Original / compressed, as a factor."""
    return f"{number(value)}{TIMES}"


def times_smaller(value: float) -> str:
    """How many times smaller, or larger, than the original."""
    return _times(value, "smaller", "larger")


def times_faster(value: float) -> str:
    """How many times faster, or slower, than the original."""
    return _times(value, "faster", "slower")


def _times(value: float, gain: str, loss: str) -> str:
    return f"{ratio(value)} {gain}" if value >= 1 else f"{ratio(1 / value)} {loss}"


def shortened(sentence: str) -> str:
    """A recipe's sentence without the words in brackets, which say how."""
    return re.sub(r" \([^()]*\)", "", sentence)


def escaped(text: str) -> str:
    """What a person wrote, so that Markdown shows it as it is."""
    return re.sub(r"([^\w\s·%])", r"\\\1", text)


def typeset(note: str) -> str:
    """A run's note, its numbers below zero written as elsewhere on the page."""
    return re.sub(r"(?<![\w.])-(?=\d)", _MINUS, note)


def asked_for_by(name: str) -> str:
    """Markdown that says, beside a run, who asked for it; empty where the name is."""
    return f" :small[:gray[asked for by {escaped(name)}]]" if name else ""


def accuracy_range(top1: Interval) -> str:
    """The ends of an accuracy's interval."""
    return f"{number(100 * top1.low)} to {percent(top1.high)}"


def accuracy_interval(top1: Interval) -> str:
    """The 95 % interval of an accuracy and how many images it rests on."""
    return f"95 % interval {accuracy_range(top1)}, {top1.n:,} images"


def paired_interval(change: Interval) -> str:
    """The 95 % interval of a difference of accuracies, in percentage points."""
    ends = (round(100 * end, 2) for end in (change.low, change.high))
    return " to ".join(_signed(end) if end else "0" for end in ends)


def ratio_interval(value: Ratio) -> str:
    """The 95 % interval of a ratio."""
    return f"{number(value.low)} to {number(value.high)}{TIMES}"


def how_timed(latency: Latency) -> str:
    """Where and how a latency was measured."""
    return f"{latency.backend}, {threads(latency.threads)}, batch {latency.batch}"


def factor(speedup: Ratio) -> str:
    """How much faster or slower, or that neither is clear, in words."""
    if speedup.low <= 1 <= speedup.high:
        return "neither clearly faster nor slower"
    return times_faster(speedup.value)
