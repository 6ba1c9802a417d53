"""The numbers behind the charts, and that figures are made of them."""

from __future__ import annotations

import itertools
import struct
from xml.etree import ElementTree

import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from compression.catalogue.cards import Weights
from compression.runs.results import Run
from dashboard.figures.picture import trade_off_drawing, trade_off_picture
from dashboard.figures.style import FRONT, SCALE
from dashboard.figures.trade_off import LARGE, solid_figure, trade_off_figure
from dashboard.figures.weight_histogram import cut, cut_figure
from dashboard.numbers import trade_off
from dashboard.numbers.measures import HORIZONTAL, MEASURES, VERTICAL
from tests.dashboard.runs import done, recipe

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
    chart = trade_off.trade_off(runs, *axes, "speedup")
    everything = [*chart.points, *([chart.original] if chart.original else [])]
    for point in chart.front:
        assert not any(trade_off.dominates(o, point, chart.x, chart.y) for o in everything)


@given(RUNS, AXES)
def test_what_is_not_on_the_front_is_matched_or_dominated(
    runs: list[Run], axes: tuple[str, str]
) -> None:
    chart = trade_off.trade_off(runs, *axes, "speedup")
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
    chart = trade_off.trade_off(runs, *axes, "speedup")
    for one, other in itertools.pairwise(chart.front):
        assert chart.x.betters(one.x, other.x)
        assert chart.y.betters(other.y, one.y)


@given(RUNS, AXES)
def test_every_chart_has_a_title_a_notice_and_axis_units(
    runs: list[Run], axes: tuple[str, str]
) -> None:
    chart = trade_off.trade_off(runs, *axes, "speedup")
    figure = trade_off_figure(chart, None)
    assert chart.title
    assert trade_off.notice(chart).endswith(".")
    assert chart.x.unit in figure.layout.xaxis.title.text
    assert chart.y.unit in figure.layout.yaxis.title.text


def chart_of(runs: list[Run], x: str = "smaller", y: str = "change") -> trade_off.TradeOff:
    return trade_off.trade_off(runs, x, y, "speedup", {r.id: f"run {r.id[:3]}" for r in runs})


def clickable(figure: go.Figure) -> list[str]:
    return [row[0] for t in figure.data if t.customdata is not None for row in t.customdata]


def test_notice_names_the_smallest_run_within_a_point() -> None:
    runs = [
        done(recipe(bits=8), 0.919, 10_000_000),
        done(recipe(bits=4), 0.912, 5_000_000),
        done(recipe(bits=2), 0.8, 1_000_000),
    ]
    text = trade_off.notice(chart_of(runs))
    assert "Smallest within 1 point of the original: 8.95× smaller, at" in text
    assert "0.80 points" in text
    assert "; 1 collapsed." in text
    assert "; 1 collapsed and not drawn." in trade_off.notice(chart_of(runs), solid=True)


def test_notice_when_all_runs_lose_more_than_a_point() -> None:
    text = trade_off.notice(chart_of([done(recipe(bits=2), 0.8)]))
    assert text.startswith("No run stays within 1 point")


def test_clicking_gives_the_run_and_bars_are_the_intervals() -> None:
    run = done(recipe(bits=4), 0.91)
    figure = trade_off_figure(chart_of([run], "speedup"), run.id)
    points = next(t for t in figure.data if t.customdata is not None)
    assert points.customdata[0][0] == run.id
    assert [points.error_y.array[0], points.error_y.arrayminus[0]] == pytest.approx([0.3, 0.3])
    assert points.error_x.array[0] == pytest.approx(0.02 / 0.9)
    assert "Selected" in [t.name for t in figure.data]


@given(RUNS, AXES)
def test_the_original_is_a_star_where_nothing_has_changed(
    runs: list[Run], axes: tuple[str, str]
) -> None:
    chart = chart_of(runs, *axes)
    stars = [t for t in trade_off_figure(chart, None).data if t.name == "Original"]
    assert len(stars) == (chart.original is not None)
    for measure, values in ((chart.x, "x"), (chart.y, "y")):
        for star in stars:
            if measure.neutral is not None:
                assert list(star[values]) == [measure.neutral * measure.scale]


@given(RUNS)
def test_every_run_is_drawn_once_and_none_below_the_axis(runs: list[Run]) -> None:
    chart = chart_of(runs)
    figure = trade_off_figure(chart, None)
    drawn = sorted(p.run_id or trade_off.ORIGINAL for p in chart.everything)
    assert sorted(clickable(figure)) == drawn
    if chart.floor is not None:
        low = figure.layout.yaxis.range[0]
        assert all(y >= low for t in figure.data for y in t.y)
        assert 0 < sum(map(chart.collapsed, chart.points)) < len(chart.points)


def test_what_collapsed_does_not_press_the_others_together() -> None:
    runs = [done(recipe(bits=8), 0.919), done(recipe(bits=4), 0.90), done(recipe(bits=2), 0.2)]
    chart = chart_of(runs)
    assert [p.run_id for p in chart.points if chart.collapsed(p)] == [runs[2].id]
    assert -0.1 < (chart.floor or 0) < -0.02
    arrows = next(
        t for t in trade_off_figure(chart, runs[2].id).data if "Collapsed" in (t.name or "")
    )
    assert arrows.marker.symbol == "triangle-down"
    assert "72.0" in arrows.hovertext[0]
    assert chart_of(runs[2:]).floor is None  # nothing else to make room for


def test_file_size_is_logarithmic_on_either_axis() -> None:
    runs = [done(recipe(bits=8), 0.92, 10**7, 0.5), done(recipe(bits=2), 0.9, 10**5, 0.4)]
    for x, y, size in (("smaller", "change", "xaxis"), ("speedup", "smaller", "yaxis")):
        layout = trade_off_figure(chart_of(runs, x, y), None).layout
        assert layout[size].type == "log" and "logarithmic" in layout[size].title.text


def test_runs_without_a_figure_are_counted_not_shown() -> None:
    runs = [done(recipe(bits=4)), done(recipe(bits=8), None)]
    chart = chart_of(runs)
    assert (len(chart.points), chart.left_out) == (1, 1)


def test_a_missing_colour_leaves_the_points_plain() -> None:
    runs = [done(recipe(bits=4)), done(recipe(bits=8), p50_ms=None)]
    points = next(t for t in trade_off_figure(chart_of(runs), None).data if t.customdata)
    assert len(points.x) == 2
    assert not points.marker.showscale


def test_what_may_be_chance_has_the_colour_of_the_original() -> None:
    noisy, clear = done(recipe(bits=4), p50_ms=0.99), done(recipe(bits=8), p50_ms=0.5)
    chart = chart_of([noisy, clear])
    assert [p.colour for p in chart.points] == [1.0, 2.0]


def test_the_best_runs_carry_their_names() -> None:
    runs = [done(recipe(bits=b), 0.92 - (8 - b) ** 2 / 800, 10**5 * 2**b) for b in range(2, 9)]
    chart = chart_of(runs)
    close = next(p for p in chart.front if p.y >= -trade_off.CLOSE)
    assert {close, chart.front[0]} <= {*chart.labels}
    texts = [t for t in trade_off_figure(chart, None).data if t.mode == "text"]
    assert [t.strip() for t in texts[0].text] == [p.name for p in chart.labels]


@given(RUNS, AXES)
def test_every_point_is_reached_from_left_to_right(runs: list[Run], axes: tuple[str, str]) -> None:
    chart = chart_of(runs, *axes)
    visited: list[str] = []
    _, at = trade_off.neighbours(chart, "nothing")
    while at is not None:
        before, after = trade_off.neighbours(chart, at)
        assert before == (visited[-1] if visited else None)
        visited.append(at)
        at = after
    assert sorted(visited) == sorted(p.run_id or trade_off.ORIGINAL for p in chart.everything)


@given(RUNS, AXES)
def test_the_axis_holds_every_point(runs: list[Run], axes: tuple[str, str]) -> None:
    chart = chart_of(runs, *axes)
    if chart.everything:
        low, high = chart.x_range
        assert low < min(p.x for p in chart.everything)
        assert max(p.x for p in chart.everything) < high


@given(RUNS, AXES)
def test_no_name_covers_another(runs: list[Run], axes: tuple[str, str]) -> None:
    chart = chart_of(runs, *axes)
    boxes = [chart.label_box(*label) for label in chart.labels.items()]
    boxes += [chart.label_box(chart.original, trade_off.ORIGINAL_SIDE)] if chart.original else []
    for (left, right, low, high), (left_2, right_2, low_2, high_2) in itertools.combinations(
        boxes, 2
    ):
        assert right <= left_2 or right_2 <= left or high <= low_2 or high_2 <= low


def test_a_name_goes_where_no_point_or_interval_is() -> None:
    """A name to the right of the best run would cover the interval of the run beside it, which is
    as wide as that of no other."""
    best = done(recipe(bits=4), 0.9195, 2_000_000)
    beside = done(recipe(bits=5), 0.916, 1_700_000)
    assert beside.delta is not None and beside.delta.top1 is not None
    wide = beside.delta.top1.model_copy(update={"low": -0.009, "high": 0.004})
    wide_delta = beside.delta.model_copy(update={"top1": wide})
    far = [done(recipe(bits=8), 0.9197, 12_000_000), done(recipe(bits=2), 0.913, 500_000)]

    def side(neighbour: Run) -> str:
        chart = chart_of([*far, best, neighbour])
        return next(s for p, s in chart.labels.items() if p.run_id == best.id)

    assert side(beside) == "top right"
    assert side(beside.model_copy(update={"delta": wide_delta})) != "top right"


def test_a_projector_gets_everything_larger() -> None:
    chart = chart_of([done(recipe(bits=4)), done(recipe(bits=8))])
    small, large = (trade_off_figure(chart, None, large=large) for large in (False, True))
    assert large.layout.font.size == LARGE * small.layout.font.size
    for one, other in zip(small.data, large.data, strict=True):
        if one.marker.size is not None:
            assert other.marker.size == LARGE * one.marker.size


def test_the_ring_can_be_round_the_original() -> None:
    chart = chart_of([done(recipe(bits=4))])
    ring = next(t for t in trade_off_figure(chart, trade_off.ORIGINAL).data if t.name == "Selected")
    assert (ring.x[0], ring.y[0]) == (1, 0)


@given(RUNS, AXES)
@settings(max_examples=5)
def test_the_picture_shows_every_point(runs: list[Run], axes: tuple[str, str]) -> None:
    chart = chart_of(runs, *axes)
    drawn = trade_off_drawing(chart, "Model", None)
    offsets = [len(c.get_offsets()) for a in drawn.axes for c in a.collections if _is_points(c)]
    assert sum(offsets) == len(chart.everything)
    title, subtitle = (text.get_text() for text in drawn.texts[:2])
    assert title == f"Model: {chart.title.lower()}"
    assert subtitle.split() == trade_off.notice(chart).split()


def _is_points(collection: object) -> bool:
    return isinstance(collection, PathCollection)


def test_the_picture_is_light_large_and_the_same_each_time() -> None:
    chart = chart_of([done(recipe(bits=4)), done(recipe(bits=8), 0.915, 10**7)])
    png = trade_off_picture(chart, "Model", chart.points[0].run_id, "png")
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", png[16:24]) == (2560, 1440)
    assert trade_off_picture(chart, "Model", None, "png") != png  # the ring
    svg = trade_off_picture(chart, "Model", None, "svg")
    assert ElementTree.fromstring(svg).get("viewBox") == "0 0 921.6 518.4"
    assert trade_off_picture(chart, "Model", None, "svg") == svg


@given(RUNS, AXES)
def test_three_dimensions_show_the_same_runs(runs: list[Run], axes: tuple[str, str]) -> None:
    chart = trade_off.trade_off(runs, *axes, "sparsity")
    drawn, star = solid_figure(chart, None).data
    assert len(drawn.x) == len(chart.points) - sum(map(chart.collapsed, chart.points))
    for point in chart.points:
        if not chart.collapsed(point):
            at = (point.x * chart.x.scale, point.y * chart.y.scale)
            assert at in list(zip(drawn.x, drawn.z, strict=True))
    assert len(star.x) <= 1


def test_an_interval_needs_both_sides() -> None:
    assert MEASURES["speedup"].bounds(done(recipe(bits=4), p50_ms=None)) is None


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
