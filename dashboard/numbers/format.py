"""Numbers as a person reads them: three significant digits and a unit."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from compression.runs.results import Latency
from compression.runs.statistics import Interval, Ratio
from dashboard.numbers import format as fmt

DASH = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_THIN = "\N{NO-BREAK SPACE}"
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


def _scaled(value: float, units: Sequence[str]) -> str:
    """`value` in the largest of `units`, each 1,000 times the one before, that keeps it >= 1."""
    if not math.isfinite(value):
        return DASH
    step = 0
    while step < len(units) - 1 and abs(float(f"{value / 1000**step:.2e}")) >= 1000:
        step += 1
    scaled = value / 1000**step
    whole = step == 0 and float(scaled).is_integer()
    text = f"{scaled:,.0f}" if whole else number(scaled)
    return f"{text}{_THIN}{units[step]}".rstrip(_THIN)


def size(bytes_: float) -> str:
    """Bytes, in decimal units."""
    return _scaled(bytes_, ("B", "kB", "MB", "GB", "TB"))


def count(value: float) -> str:
    """How many, with k, M or G for thousands, millions or thousand millions."""
    return _scaled(value, ("", "k", "M", "G", "T"))


def percent(fraction: float) -> str:
    """A fraction in percent. What is not quite all or nothing is never shown as if it were."""
    if not math.isfinite(fraction):
        return DASH
    if 0.9995 <= fraction < 1:
        return f"> 99.9{_THIN}%"
    if 0 < fraction < 5e-5:
        return f"< 0.01{_THIN}%"
    return f"{number(100 * fraction)}{_THIN}%"


def points(difference: float) -> str:
    """A signed difference of two fractions, in percentage points."""
    if not math.isfinite(difference):
        return DASH
    value = round(100 * difference, 2)
    return f"{_signed(value)} points" if value else "0 points"


def _signed(value: float) -> str:
    text = f"{abs(value):.2f}" if abs(value) < 10 else number(abs(value))
    return f"+{text}" if value > 0 else f"{_MINUS}{text}" if value < 0 else text


def milliseconds(value: float) -> str:
    """A time in milliseconds."""
    return f"{number(value)}{_THIN}ms"


def seconds(value: float) -> str:
    """A short time in seconds."""
    return f"{number(value)}{_THIN}s"


def ratio(value: float) -> str:
    """Original / compressed, as a factor."""
    return f"{number(value)}{TIMES}"


def duration(seconds: float) -> str:
    """A time span, in seconds, minutes or hours."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def shortened(sentence: str) -> str:
    """A recipe's sentence without the words in brackets, which say how."""
    return re.sub(r" \([^()]*\)", "", sentence)


def accuracy_range(top1: Interval) -> str:
    """The ends of an accuracy's interval."""
    return f"{number(100 * top1.low)} to {percent(top1.high)}"


def accuracy_interval(top1: Interval) -> str:
    """The 95 % interval of an accuracy and how many images it rests on."""
    return f"95 % interval {accuracy_range(top1)}, {top1.n:,} images"


def paired_interval(top1: Interval) -> str:
    """The 95 % interval of a difference of accuracies, in percentage points."""
    low, high = (_signed(round(100 * v, 2)) if round(100 * v, 2) else "0" for v in _ends(top1))
    return f"{low} to {high}"


def _ends(top1: Interval) -> tuple[float, float]:
    return top1.low, top1.high


def ratio_interval(value: Ratio) -> str:
    """The 95 % interval of a ratio."""
    return f"{number(value.low)} to {number(value.high)}{TIMES}"


def how_timed(latency: Latency) -> str:
    """Where and how a latency was measured."""
    return f"{latency.backend}, {threads(latency.threads)}, batch {latency.batch}"


def threads(*counts: int) -> str:
    """With how many threads."""
    return "1 thread" if counts == (1,) else f"{' or '.join(map(str, counts))} threads"


def factor(ratio: Ratio) -> str:
    """How much faster or slower, or that it cannot be told, in words."""
    if ratio.low <= 1 <= ratio.high:
        return "neither clearly faster nor slower"
    value = ratio.value if ratio.value >= 1 else 1 / ratio.value
    return f"{fmt.ratio(value)} {'faster' if ratio.value >= 1 else 'slower'}"
