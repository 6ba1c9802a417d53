"""Numbers as the command line and the files of a run show them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.runs import format as fmt
from compression.runs.progress import Point, Progress


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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (-3, "0 s")],
)
def test_duration(seconds: float, text: str) -> None:
    assert fmt.duration(seconds) == text


@given(st.floats(1, 1e6))
def test_an_estimated_time_is_no_further_off_than_what_it_hides(seconds: float) -> None:
    step = 1 if seconds < 20 else 5 if seconds < 60 else 15 if seconds < 180 else 60
    shown = fmt.about(seconds)
    near = [fmt.duration(step * n) for n in range(int(seconds // step), int(seconds // step) + 2)]
    assert shown in near


def test_how_far_a_run_is() -> None:
    point = Point(step=40, epoch=1.3, learning_rate=0.1)
    training = Progress(stage="Training", fraction=0.412, seconds_left=187, epochs=5, point=point)
    assert fmt.so_far(training) == "Training, epoch 2 of 5 · 41 % · about 3 min left"
    assert fmt.so_far(Progress(stage="Packing", fraction=0.9)) == "Packing · 90 %"
    over = Progress(stage="Packing", fraction=1.0, seconds_left=0.0)
    assert fmt.so_far(over) == "Packing · 100 %"
