"""The numbers behind the charts, and that figures are made of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.catalogue.cards import Weights
from compression.runs.results import Run
from dashboard.figures.style import FRONT, SCALE
from dashboard.figures.trade_off import trade_off_figure
from dashboard.figures.weight_histogram import cut, cut_figure
from dashboard.numbers import trade_off
from dashboard.numbers.measures import HORIZONTAL, MEASURES, VERTICAL
from tests.dashboard.runs import DENSE, done, recipe

RUNS = st.lists(
    st.tuples(st.integers(30, 96), st.integers(1, 45), st.integers(5, 15), st.integers(0, 99)),
    max_size=12,
).map(
    lambda rows: [
        done(recipe(bits=4), accuracy / 100, megabytes * 1_000_000, ms / 10, zeros / 100)
        for accuracy, megabytes, ms, zeros in rows
    ]
)
AXES = st.sampled_from([(x, y) for x in HORIZONTAL for y in VERTICAL if x != y])


@given(RUNS, AXES)
def test_no_shown_front_point_is_dominated(runs: list[Run], axes: tuple[str, str]) -> None:
    chart = trade_off.trade_off(runs, *axes, "latency")
    everything = [*chart.points, *([chart.original] if chart.original else [])]
    for point in chart.front:
        assert not any(trade_off.dominates(o, point, chart.x, chart.y) for o in everything)


@given(RUNS, AXES)
def test_what_is_not_on_the_front_is_matched_or_dominated(
    runs: list[Run], axes: tuple[str, str]
) -> None:
    chart = trade_off.trade_off(runs, *axes, "latency")
    for point in chart.points:
        if point not in chart.front:
            assert any(
                trade_off.dominates(f, point, chart.x, chart.y) or (f.x, f.y) == (point.x, point.y)
                for f in chart.front
            )


@pytest.mark.slow
@given(RUNS, AXES)
def test_front_gets_better_in_y_as_it_gets_worse_in_x(
    runs: list[Run], axes: tuple[str, str]
) -> None:
    chart = trade_off.trade_off(runs, *axes, "latency")
    for one, other in itertools.pairwise(chart.front):
        assert chart.x.betters(one.x, other.x)
        assert chart.y.betters(other.y, one.y)


@given(RUNS, AXES)
def test_every_chart_has_a_title_a_notice_and_axis_units(
    runs: list[Run], axes: tuple[str, str]
) -> None:
    chart = trade_off.trade_off(runs, *axes, "latency")
    figure = trade_off_figure(chart, None)
    assert chart.title
    assert trade_off.notice(chart).endswith(".")
    assert chart.x.unit in figure.layout.xaxis.title.text
    assert chart.y.unit in figure.layout.yaxis.title.text


def test_notice_names_the_smallest_run_within_a_point() -> None:
    runs = [
        done(recipe(bits=8), 0.919, 10_000_000),
        done(recipe(bits=4), 0.912, 5_000_000),
        done(recipe(bits=2), 0.8, 1_000_000),
    ]
    text = trade_off.notice(trade_off.trade_off(runs, "size", "accuracy", "latency"))
    assert "5.00\N{NO-BREAK SPACE}MB against 44.8\N{NO-BREAK SPACE}MB" in text
    assert "0.80 points" in text


def test_notice_when_all_runs_lose_more_than_a_point() -> None:
    chart = trade_off.trade_off([done(recipe(bits=2), 0.8)], "size", "accuracy", "latency")
    assert trade_off.notice(chart).startswith("No run stays within 1 point")


def test_clicking_gives_the_run_and_bars_are_the_intervals() -> None:
    run = done(recipe(bits=4), 0.91)
    figure = trade_off_figure(trade_off.trade_off([run], "latency", "accuracy", "size"), run.id)
    points = next(t for t in figure.data if t.customdata is not None)
    assert points.customdata[0][0] == run.id
    assert points.error_y.array[0] == pytest.approx(0.7)
    assert points.error_y.arrayminus[0] == pytest.approx(0.8)
    # original / 0.98 of the ratio, at a baseline of 1 ms
    assert points.error_x.array[0] == pytest.approx(0.9 / 0.98 - 0.9)
    assert "Selected" in [t.name for t in figure.data]


def test_original_is_a_star_at_its_dense_size() -> None:
    chart = trade_off.trade_off([done(recipe(bits=4))], "size", "accuracy", "latency")
    assert chart.original is not None
    assert chart.original.x == DENSE
    stars = [t for t in trade_off_figure(chart, None).data if t.name == "Original"]
    assert stars[0].marker.symbol == "star"


def test_runs_without_a_figure_are_counted_not_shown() -> None:
    runs = [done(recipe(bits=4)), done(recipe(bits=8), None)]
    chart = trade_off.trade_off(runs, "size", "accuracy", "latency")
    assert (len(chart.points), chart.left_out) == (1, 1)


def test_a_missing_colour_leaves_the_points_plain() -> None:
    runs = [done(recipe(bits=4)), done(recipe(bits=8), p50_ms=None)]
    chart = trade_off.trade_off(runs, "size", "accuracy", "latency")
    points = next(t for t in trade_off_figure(chart, None).data if t.customdata is not None)
    assert len(points.x) == 2
    assert not points.marker.showscale


def test_latency_interval_needs_both_sides() -> None:
    assert MEASURES["latency"].bounds(done(recipe(bits=4), p50_ms=None)) is None


WEIGHTS = Weights(
    quantiles=tuple(i / 100 for i in range(101)), largest={"a": 1.0, "b": 0.5}, counts={"a": 9}
)


@given(st.floats(0, 1.2))
def test_cut_follows_the_stored_quantiles(threshold: float) -> None:
    numbers = cut(WEIGHTS, threshold, 1.0)
    assert numbers.sparsity == pytest.approx(min(threshold, 1.0), abs=0.011)
    assert max(numbers.density) == 1.0
    assert all(0 <= d <= 1 for d in numbers.density)


def test_cut_figure_colours_what_becomes_zero() -> None:
    figure = cut_figure(cut(WEIGHTS, 0.5, 1.0, bins=10))
    assert list(figure.data[0].marker.color) == [FRONT] * 5 + [SCALE[0][1]] * 5
