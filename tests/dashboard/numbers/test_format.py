"""Numbers as a person reads them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.runs.statistics import Interval, Ratio
from dashboard.numbers import format as fmt

MINUS, NBSP = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.000123456, "0.000123"),
        (0.9996, "1.00"),
        (1234.5, "1,230"),
        (12.345, "12.3"),
        (-0.05, f"{MINUS}0.0500"),
        (1e-9, f"1.00e{MINUS}09"),
        (math.nan, "–"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert fmt.number(value) == text


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [(0, "0 B"), (999, "999 B"), (999_600, "1.00 MB"), (44_765_128, "44.8 MB"), (1.5e9, "1.50 GB")],
)
def test_size(bytes_: float, text: str) -> None:
    assert fmt.size(bytes_).replace(NBSP, " ") == text


@given(st.floats(1e-4, 1e6))
def test_three_digits_are_within_half_a_percent(value: float) -> None:
    assert float(fmt.number(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


@given(st.integers(1, 10**14))
def test_size_never_shows_a_thousand_of_a_unit(bytes_: int) -> None:
    shown, unit = fmt.size(bytes_).split(NBSP)
    value = float(shown.replace(",", ""))
    assert 0 < value < 1000
    assert value * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit] == pytest.approx(
        bytes_, rel=0.0051
    )


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_percent_never_claims_all_or_nothing(fraction: float) -> None:
    assert fmt.percent(fraction) not in (f"0{NBSP}%", f"100{NBSP}%", f"0.00{NBSP}%")


def test_percent_of_all_and_nothing() -> None:
    assert fmt.percent(1.0) == f"100{NBSP}%"
    assert fmt.percent(0.0) == f"0{NBSP}%"


@given(st.floats(-1, 1))
def test_points_have_the_sign_of_the_difference(difference: float) -> None:
    shown = fmt.points(difference)
    if shown != "0 points":
        assert shown.startswith("+" if difference > 0 else MINUS)


def test_small_differences_are_zero_points() -> None:
    assert fmt.points(-0.00001) == "0 points"


def test_intervals() -> None:
    top1 = Interval(value=-0.0042, low=-0.009, high=0.0006, n=5000)
    assert fmt.paired_interval(top1) == f"{MINUS}0.90 to +0.06"
    accuracy = Interval(value=0.912, low=0.904, high=0.919, n=5000)
    assert fmt.accuracy_interval(accuracy) == f"95 % interval 90.4 to 91.9{NBSP}%, 5,000 images"
    assert fmt.ratio_interval(Ratio(value=1, low=0.98, high=1.02)) == "0.980 to 1.02×"


def test_notes_have_the_same_minus_sign() -> None:
    note = "It changes by -0.32 points (-0.78 to +0.14), by rate-3 GPTQ."
    assert fmt.typeset(note) == note.replace("-0.32", "−0.32").replace("-0.78", "−0.78")


def test_a_shortened_sentence_says_what_and_not_how() -> None:
    sentence = "Zero 80 % of weights (OBS, repaired), then store the rest in 4 bits (GPTQ)."
    assert fmt.shortened(sentence) == "Zero 80 % of weights, then store the rest in 4 bits."
