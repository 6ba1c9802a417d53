"""Numbers for a person: three significant digits, units, intervals."""

from __future__ import annotations

from compression.runs.statistics import Interval, Ratio

NONE = "-"


def digits(value: float) -> str:
    """Three significant digits, never in powers of ten: 0.123, 12.3, 12300."""
    text = f"{value:.3g}"
    return f"{float(text):.0f}" if "e+" in text else text


def count(value: float) -> str:
    """A number of things, such as parameters: 11.2 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return digits(value / size) + unit
    return digits(value)


def size(value: float) -> str:
    """Bytes, in decimal units: 44.7 MB."""
    return f"{count(value)}B" if value >= 1e3 else f"{digits(value)} B"


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


def ratio(value: Ratio | float | None) -> str:
    """Original / compressed, with its 95 % interval if it has one."""
    if value is None:
        return NONE
    if isinstance(value, Ratio):
        return f"{digits(value.value)} x ({digits(value.low)} to {digits(value.high)})"
    return f"{digits(value)} x"
