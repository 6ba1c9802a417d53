"""Size and speed-up analysis: the numbers, the sentences, and the section of the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.runs.results import Run
from compression.runs.statistics import Ratio
from compression.runs.store import Store
from dashboard.figures import dumbbell
from dashboard.numbers import size_and_speed, trade_off
from dashboard.numbers.format import factor
from dashboard.numbers.measures import MEASURES
from tests.dashboard.page import Open, metric_values, open_tab, text_of
from tests.dashboard.runs import DENSE, done, recipe
from tests.dashboard.speeds import REASON, with_speeds

BYTES = st.integers(1_000, 10**9)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def sized(dense: int, file: int, bound: int = 1) -> Run:
    run = done(recipe(bits=4), file_bytes=file)
    assert run.compressed is not None
    small = run.compressed.model_copy(update={"dense_bytes": dense, "entropy_bound_bytes": bound})
    return run.model_copy(update={"compressed": small})


@given(BYTES, BYTES, BYTES)
def test_every_ratio_is_original_over_compressed(dense: int, file: int, bound: int) -> None:
    lines = {line.key: line for line in size_and_speed.sizes(sized(dense, file, bound))}
    assert lines["packed"].ratio == pytest.approx(DENSE / file)
    assert lines["dense"].ratio == pytest.approx(DENSE / dense)
    assert "onnx" not in lines  # not counted in this run


def test_the_factors_of_size_multiply_to_the_whole() -> None:
    text = plain(size_and_speed.size_notice(sized(DENSE // 4, DENSE // 40, DENSE // 44)))
    assert "44.8 MB of float32 weights become a file of 1.12 MB, 40.0× smaller" in text
    assert "4.00× by having fewer weights, times 10.0× by storing each in fewer bits" in text
    assert "10.0 % above the entropy bound" in text
    same = plain(size_and_speed.size_notice(sized(DENSE, DENSE // 10, DENSE // 9)))
    assert "fewer weights" not in same
    assert "10.0 % below the entropy bound" in same


@given(st.floats(0.05, 20), st.floats(0.0, 0.5))
def test_no_speed_is_claimed_that_may_be_chance(value: float, spread: float) -> None:
    ratio = Ratio(value=value, low=value * (1 - spread), high=value * (1 + spread))
    text = factor(ratio)
    if ratio.low > 1:
        assert text.endswith("faster")
    elif ratio.high < 1:
        assert text.endswith("slower")
    else:
        assert "clearly" in text


def test_expected_and_measured_are_compared() -> None:
    run = with_speeds(done(recipe(sparsity=0.8, bits=4)))
    text = plain(size_and_speed.speed_notice(run))
    assert "ONNX Runtime is 1.03× slower, where 5.00× could be expected." in text
    assert "ONNX Runtime, int8 is 2.87× faster, as much as could be expected (2.80×)." in text
    first, second = size_and_speed.speeds(run)
    assert (first.expected, first.reasons) == (5.0, (REASON,))
    assert second.reasons == ()


def test_what_holds_all_of_them_back_is_said_once() -> None:
    speeds = [
        size_and_speed.Speed("A", 2.0, Ratio(value=1, low=1, high=1), ("zeros", "memory")),
        size_and_speed.Speed("B", 4.0, Ratio(value=1, low=1, high=1), ("zeros", "starting")),
    ]
    assert size_and_speed.reasons(speeds) == [
        ("What holds all of them back", ("zeros",)),
        ("What else holds A back", ("memory",)),
        ("What else holds B back", ("starting",)),
    ]
    assert size_and_speed.reasons(speeds[:1]) == [("What holds A back", ("zeros", "memory"))]


def test_the_figure_has_a_row_for_each_way_and_one_mark_for_each_model() -> None:
    lines = size_and_speed.sizes(with_speeds(done(recipe(bits=4), file_bytes=1_000_000)))
    figure = dumbbell.size_figure(lines)
    before, after = (t for t in figure.data if "markers" in t.mode)
    assert list(after.x) == [line.compressed / 1e6 for line in lines if line.compressed]
    assert before.x[[line.key for line in lines].index("onnx-int8")] is None
    assert figure.layout.xaxis.type == "log"  # 45 times apart
    assert "MB" in figure.layout.xaxis.title.text
    near = size_and_speed.sizes(done(recipe(bits=8), file_bytes=DENSE // 4))
    flat = dumbbell.size_figure(near).layout.xaxis
    assert flat.type is None and flat.range[0] == 0


@given(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1)))
def test_labels_stand_apart_and_inside(at: float, other: float | None) -> None:
    wide = 0.2  # of the figure: a label with its gaps, in the narrowest
    place = dumbbell.label_place(at, other)
    span = (at, at + wide) if place.endswith("right") else (at - wide, at)
    assert span[0] >= -1e-9 and span[1] <= 1 + 1e-9
    if other is None or other == at:
        return
    beside = dumbbell.label_place(other, at)
    spans = (other, other + wide) if beside.endswith("right") else (other - wide, other)
    same_height = place.split()[0] == beside.split()[0]
    assert not same_height or span[1] <= spans[0] or spans[1] <= span[0]


def test_what_is_expected_is_drawn_hollow() -> None:
    speeds = size_and_speed.speeds(with_speeds(done(recipe(bits=4))))
    expected, measured = (t for t in dumbbell.speed_figure(speeds).data if "markers" in t.mode)
    assert expected.marker.symbol == "circle-open" and list(expected.x) == [5.0, 2.8]
    assert list(measured.x) == [s.measured.value for s in speeds]
    assert list(measured.error_x.array) == pytest.approx([0.02 * v for v in measured.x])


def test_int8_is_a_measure_where_runs_have_it() -> None:
    fast, plain_run = with_speeds(done(recipe(bits=4))), done(recipe(bits=8))
    chart = trade_off.trade_off([fast, plain_run], "int8_speedup", "change", "smaller")
    (point,) = chart.points
    assert (point.run_id, point.x) == (fast.id, pytest.approx(2.53 / 0.88))
    assert chart.left_out == 1
    assert chart.original is not None and chart.original.x == 1
    low, high = MEASURES["int8_speedup"].bounds(fast) or (0, 0)
    assert low < point.x < high
    assert MEASURES["int8_speedup"].bounds(plain_run) is None


def test_nothing_is_drawn_before_it_is_opened(page: Open, store: Store) -> None:
    store.runs.add(with_speeds(done(recipe(sparsity=0.8, bits=4))))
    at = page()
    before = len(at.get("plotly_chart"))
    assert "Speed, expected and measured" not in text_of(at)
    open_tab(at, "Size and speed")
    assert len(at.get("plotly_chart")) == before + 2
    text = plain(text_of(at))
    assert f"What holds ONNX Runtime back: {REASON}" in text
    assert "44.8 MB of float32 weights become a file of 1.20 MB" in text
    assert "of the remaining weights are zero" in text
    assert "not known" not in text


def test_an_older_run_shows_what_there_is_and_why_there_is_no_more(
    page: Open, store: Store
) -> None:
    store.runs.add(done(recipe(bits=4)))
    at = page()
    before = len(at.get("plotly_chart"))
    text = text_of(open_tab(at, "Size and speed"))
    assert len(at.get("plotly_chart")) == before + 1  # of one speed there is no chart
    assert "ONNX Runtime is 1.11× faster." in text
    assert "measured before expected speeds and ONNX file sizes were recorded" in text


@pytest.mark.slow
def test_a_run_without_int8_says_why(page: Open, store: Store) -> None:
    store.runs.add(with_speeds(done(recipe(sparsity=0.8)), int8_ms=None))
    at = page()
    assert "not quantized, so it has no speed in int8" in text_of(open_tab(at, "Size and speed"))


def test_the_card_of_latency_has_both_speeds(page: Open, store: Store) -> None:
    store.runs.add(with_speeds(done(recipe(bits=4), p50_ms=2.6)))
    at = page()
    values = {k: (plain(v), d) for k, (v, d) in metric_values(at).items()}
    assert values["Latency"] == ("2.60 ms", "1.03× slower")
    assert values["Latency as int8"] == ("0.880 ms", "2.87× faster")
    assert "Speed as int8" in at.selectbox(key="axis_x").options
