"""Numbers for a person: three significant digits, units, intervals."""

from __future__ import annotations

from collections.abc import Sequence

from compression.runs.progress import Progress
from compression.runs.results import Latency
from compression.runs.statistics import Interval, Ratio

NONE = "-"
BUSY = "busy machine"
_LISTED = 3
_PREFIXES = ("", "k", "M", "G", "T")


def digits(value: float) -> str:
    """Three significant digits: 0.123, 12.3, 12300; only below 0.0001 in powers of ten."""
    text = f"{value:.3g}"
    return f"{float(text):.0f}" if "e+" in text else text


def scaled(value: float) -> tuple[float, str]:
    """The value in units of 1, k, M, G or T, so that three digits of it are below 1,000; the
    prefix of that unit."""
    *smaller, largest = enumerate(_PREFIXES)
    for power, prefix in smaller:
        if abs(float(f"{value / 1000**power:.2e}")) < 1000:
            return value / 1000**power, prefix
    return value / 1000 ** largest[0], largest[1]


def count(value: float) -> str:
    """A number of things, such as parameters: 11.2 M."""
    number, prefix = scaled(value)
    return f"{digits(number)} {prefix}".rstrip()


def size(value: float) -> str:
    """Bytes, in decimal units: 44.7 MB."""
    number, prefix = scaled(value)
    return f"{digits(number)} {prefix}B"


def threads(*counts: int) -> str:
    """With how many threads: 1 thread, 1 or 2 threads."""
    return "1 thread" if counts == (1,) else f"{' or '.join(map(str, counts))} threads"


def milliseconds(value: float | None) -> str:
    """A latency in milliseconds: 12.3 ms."""
    return NONE if value is None else f"{digits(value)} ms"


def duration(seconds: float) -> str:
    """A time span, in seconds, minutes or hours."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def about(seconds: float) -> str:
    """A time span that is estimated: no finer than about a tenth of it."""
    step = 1 if seconds < 20 else 5 if seconds < 60 else 15 if seconds < 180 else 60
    return duration(max(1, step * round(seconds / step)))


def so_far(progress: Progress) -> str:
    """How far a run is: Training, epoch 2 of 5 · 41 % · about 3 min left."""
    parts = [progress.title, f"{100 * progress.fraction:.0f} %"]
    if progress.seconds_left is not None and progress.seconds_left >= 1:
        parts.append(f"about {about(progress.seconds_left)} left")
    return " · ".join(parts)


def listed(names: Sequence[str]) -> str:
    """The first three names, and how many more there are: a, b, c and 2 more."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def latency(value: Latency) -> str:
    """Where and how a latency was measured: ONNX Runtime, batch 1, 1 thread."""
    how = f"{value.backend}, batch {value.batch}, {threads(value.threads)}"
    return f"{how}, {BUSY}" if value.on_busy_machine else how


def percent(value: Interval | float | None) -> str:
    """A fraction as a percentage, with its 95 % interval if it has one."""
    if value is None:
        return NONE
    if isinstance(value, Interval):
        low, high = digits(100 * value.low), digits(100 * value.high)
        return f"{digits(100 * value.value)} % ({low} to {high})"
    return f"{digits(100 * value)} %"


def points(value: Interval | None) -> str:
    """A difference of fractions in percentage points, with its 95 % interval."""
    if value is None:
        return NONE
    figures = [
        f"{'+' if v > 0 else ''}{digits(100 * v)}" for v in (value.value, value.low, value.high)
    ]
    return f"{figures[0]} points ({figures[1]} to {figures[2]})"


def unsearched_images(n: int) -> str:
    """Which images the accuracy of a run that searches is on."""
    return f"Accuracy is on the {n:,} validation images that the search did not look at."


def busy_note(what: str = "the ratio") -> str:
    """That other programs disturbed a latency, and `what` may be off for it."""
    return (
        "Latency was measured while the machine was busy with other programs; "
        f"{what} may be off. Measure again when it is quiet."
    )


def faster(value: Ratio | float | None, timed: Latency | None) -> str:
    """The ratio of two latencies, marked if the machine was busy while `timed` was taken."""
    text = ratio(value)
    return f"{text}, {BUSY}" if timed and timed.on_busy_machine else text


def ratio(value: Ratio | float | None) -> str:
    """Original / compressed, with its 95 % interval if it has one."""
    if value is None:
        return NONE
    if isinstance(value, Ratio):
        return f"{digits(value.value)} x ({digits(value.low)} to {digits(value.high)})"
    return f"{digits(value)} x"
