"""Numbers as the command line and the files of a run show them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.runs import format as fmt


@given(st.floats(0, 1e14))
def test_a_scaled_number_is_the_same_number_with_three_digits_before_the_point(
    value: float,
) -> None:
    short, prefix = fmt.scaled(value)
    factor = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[prefix]
    assert short * factor == pytest.approx(value)
    assert float(f"{short:.2e}") < 1000
    assert prefix == "" or short >= 0.9995


@pytest.mark.parametrize(
    ("value", "count", "size"),
    [
        (999, "999", "999 B"),
        (999_499, "999 k", "999 kB"),
        (999_600, "1 M", "1 MB"),
        (44_765_128, "44.8 M", "44.8 MB"),
        (2.5e12, "2.5 T", "2.5 TB"),
    ],
)
def test_counts_and_sizes_never_show_a_thousand_of_a_unit(
    value: float, count: str, size: str
) -> None:
    assert (fmt.count(value), fmt.size(value)) == (count, size)


def test_three_names_are_listed_and_the_others_counted() -> None:
    assert fmt.listed(["a"]) == "a"
    assert fmt.listed(["a", "b", "c"]) == "a, b, c"
    assert fmt.listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_threads() -> None:
    assert fmt.threads(1) == "1 thread"
    assert fmt.threads(1, 2) == "1 or 2 threads"
