"""Latency in depth: the numbers, the sentences, the figures, and asking for it on the page."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from compression.catalogue.backends import BACKENDS, title
from compression.runs.progress import Progress
from compression.runs.results import LatencyReport, LayerTime, Roof, State
from compression.runs.store import Kind, Store
from dashboard.figures import latency
from dashboard.figures import layers as layer_figures
from dashboard.numbers import backend_timings, layer_times
from dashboard.views.run.details_tabs import TABS
from tests.dashboard.page import Open, healthy, text_of
from tests.dashboard.runs import done, recipe
from tests.dashboard.speeds import ROOFS, ms, report, timing
from tests.dashboard.speeds import layer_times as resnet_layers

TIMES = st.lists(st.one_of(st.none(), st.floats(0.001, 50)), min_size=1, max_size=40)
POSITIVE = st.floats(1e3, 1e12)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def layer(name: str, before: float | None, after: float | None, macs: int = 1000) -> LayerTime:
    return LayerTime(
        name=name,
        kind="Conv",
        original_ms=before,
        compressed_ms=after,
        original_macs=macs,
        compressed_macs=macs,
        original_bytes=100,
        compressed_bytes=100,
    )


@pytest.mark.slow
@given(TIMES, st.integers(1, 15))
def test_no_time_is_lost_among_the_shorter_layers(times: list[float | None], most: int) -> None:
    layers = [layer(f"l{i}", t, t) for i, t in enumerate(times)]
    bars = layer_times.bars(layers, most)
    timed = [t for t in times if t is not None]
    assert len(bars) == min(len(timed), most) + (len(timed) > most)
    assert sum(bar.original or 0 for bar in bars) == pytest.approx(sum(timed))
    named = [bar.original or 0 for bar in bars if bar.kind != "together"]
    assert named == sorted(named, reverse=True)


@pytest.mark.slow
@given(POSITIVE, POSITIVE, st.integers(1, 10**9), st.integers(1, 10**9), st.floats(0.01, 1))
def test_the_roofline_is_the_lower_of_two_limits(
    peak: float, speed: float, macs: int, moved: int, share: float
) -> None:
    roof = Roof(numbers="float32", threads=1, macs_per_second=peak, bytes_per_second=speed)
    least = max(macs / peak, moved / speed)  # seconds, when both limits are met
    assume(abs(macs / peak - moved / speed) > 1e-9 * least)
    one = layer("l", 1000 * least / share, None, macs).model_copy(update={"original_bytes": moved})
    (spot,) = layer_times.spots([one], roof, compressed=False)
    assert spot.share == pytest.approx(share)
    assert spot.intensity * moved == pytest.approx(macs)
    if share >= layer_times.FAR_BELOW * 1.001:
        assert spot.bound == ("memory" if moved / speed > macs / peak else "arithmetic")
    elif share < layer_times.FAR_BELOW * 0.999:
        assert spot.bound == "overhead"
    assert layer_times.spots([one], roof, compressed=True) == ()


def test_shares_of_what_holds_layers_back_are_of_time() -> None:
    roof = Roof(numbers="float32", threads=1, macs_per_second=1e6, bytes_per_second=1e5)
    macs = {"arithmetic": 2000, "memory": 500}  # the bend is at 10 MACs a byte, these have 20 and 5
    busy_layers = [
        layer("busy", None, 2.0, macs["arithmetic"]),
        layer("moves", None, 1.0, macs["memory"]),
    ]
    busy_layers.append(layer("waits", None, 17.0, macs["arithmetic"]))
    spots = layer_times.spots(busy_layers, roof, compressed=True)
    assert [s.bound for s in spots] == ["arithmetic", "memory", "overhead"]
    text = plain(layer_times.roof_notice(spots))
    assert "85.0 % is in layers far from both limits" in text
    assert "10.0 % is in compute-bound layers" in text
    assert "5.00 % is in memory-bound layers" in text


def test_the_roof_is_of_the_threads_the_layers_had() -> None:
    assert layer_times.roof_for(ROOFS[::-1], "float32") == ROOFS[0]
    assert layer_times.roof_for(ROOFS, "float16") is None


def test_what_to_notice_of_the_layers() -> None:
    layers = [
        layer("a", 5.0, 1.0),
        layer("b", 4.0, 3.9),
        layer("c", 1.0, 2.0),
        layer("d", 0.5, None),
    ]
    text = plain(layer_times.layers_notice(layers))
    assert "2 of 4 layers take half of the original's time." in text
    assert "a saves most: 5.00 ms become 1.00 ms." in text
    assert "1 layer is slower than before." in text


def test_batches_are_counted_in_images_a_second() -> None:
    lines = backend_timings.lines(report().sweep)
    assert {(line.name, line.threads) for line in lines} == {
        (name, n)
        for name in ("Original", "Compressed, float32", "Compressed, int8")
        for n in (1, 2)
    }
    (original,) = (n for n in lines if (n.name, n.threads) == ("Original", 2))
    assert [rate.batch for rate in original.rates] == [1, 2, 8, 32]
    assert original.rates[2].images_per_second == pytest.approx(8000 / ms(8, 2))
    text = backend_timings.sweep_notice(lines)
    assert "in int8 (batch 32, 2 threads); the original does" in text
    assert "2.90× as many" in text


def test_one_engine_needs_no_names() -> None:
    lines = backend_timings.lines([timing("eager", 4.0, 2.0, batch=b) for b in (8, 1)])
    assert [(line.name, [r.batch for r in line.rates]) for line in lines] == [
        ("Original", [1, 8]),
        ("Compressed", [1, 8]),
    ]


def test_the_fastest_backend_and_the_noise_are_named() -> None:
    text = plain(backend_timings.backends_notice(report().timings))
    assert "ONNX Runtime, int8 runs the compressed model fastest, in 0.880 ms" in text
    assert "off by up to 1.50 %" in text
    assert (
        plain(backend_timings.load(report().timings))
        == "Other processes used up to 4.00 % of the machine meanwhile."
    )
    assert "measure again when the machine is idle" in backend_timings.load(
        [timing("eager", 1.0, 1.0, busy=0.6)]
    )
    assert backend_timings.load([timing("eager", 1.0, 1.0)]) == ""
    row = {k: plain(v) for k, v in backend_timings.table(report().timings)[1].items()}
    assert row["Backend"] == "PyTorch, compiled"
    assert row["Compressed, p90 / p99"] == "3.58 / 4.55 ms"
    assert row["Ready after"] == "14.2 s"


def test_every_backend_goes_by_the_name_the_engine_gives_it() -> None:
    assert {name: b.title for name, b in BACKENDS.items()} == {n: title(n) for n in BACKENDS}


def test_every_figure_names_its_axes_and_units() -> None:
    whole = report()
    before = layer_times.spots(whole.layers, ROOFS[0], compressed=False)
    after = layer_times.spots(whole.layers, ROOFS[1], compressed=True)
    sweep = latency.sweep_figure(backend_timings.lines(whole.sweep))
    roofline = layer_figures.roofline_figure(before, after, ROOFS[:2])
    bars = layer_figures.layers_figure(layer_times.bars(whole.layers))
    backends = latency.backends_figure(whole.timings)
    assert "(ms)" in bars.layout.xaxis.title.text and "(ms)" in backends.layout.xaxis.title.text
    assert "second" in sweep.layout.yaxis.title.text and "batch" in sweep.layout.xaxis.title.text
    assert roofline.layout.xaxis.type == roofline.layout.yaxis.type == "log"
    assert "byte" in roofline.layout.xaxis.title.text
    assert [t.name for t in roofline.data][2:] == ["Original's layers", "Compressed layers"]
    assert len({t.marker.symbol for t in roofline.data[2:]}) == 2
    for limit, roof in zip(roofline.data, ROOFS[:2], strict=False):
        assert max(limit.y) == pytest.approx(roof.macs_per_second / 1e9)
    assert [t.name for t in sweep.data if t.showlegend] == [
        "Original",
        "Compressed, float32",
        "Compressed, int8",
    ]


def tabs(at: AppTest) -> list[str]:
    """Those of the section, which is itself in a tab."""
    labels = [tab.label for tab in at.tabs if tab.label not in TABS]
    return labels[labels.index("Backends") :]


def opened(page: Open) -> AppTest:
    return page(tab="Latency in depth")


@pytest.mark.slow
def test_it_is_asked_for_waited_for_and_shown(page: Open, store: Store) -> None:
    run = done(recipe(bits=4))
    store.runs.add(run)
    at = opened(page)
    assert "layer by layer" in text_of(at)
    healthy(at.button(key="request_latency").click().run())
    job = store.jobs.get(run.id, Kind.LATENCY)
    assert job is not None and job.state is State.QUEUED
    assert "Waiting until no run is under way" in text_of(at)
    assert "request_latency" not in {b.key for b in at.button}

    job = store.jobs.claim("somebody", Kind.LATENCY)
    assert job is not None and job.run_id == run.id
    store.jobs.report(job, Progress(stage="Timing layers", fraction=0.4))
    assert "Measuring: Timing layers, 40 % done" in text_of(healthy(at.run()))

    store.latency.finish(job, report())
    text = plain(text_of(healthy(at.run())))
    assert "ONNX Runtime, int8 runs the compressed model fastest" in text
    assert at.button(key="request_latency").label == "Measure again"
    assert tabs(at) == [
        "Backends",
        "Batches and threads",
        "Layer by layer",
        "Memory or compute",
        "Notes",
    ]
    assert "Throughput by batch size" not in text  # of the closed tabs nothing is drawn
    for tab, says in {
        "Batches and threads": "At its best the compressed model does",
        "Layer by layer": "of the original's time",
        "Notes": "OpenVINO is not installed.",
        "Memory or compute": "75.0 billion float32 MACs and 260 billion int8 MACs per second",
    }.items():
        at.session_state["latency_tabs"] = tab
        assert says in plain(text_of(healthy(at.run())))


@pytest.mark.slow
def test_a_failure_is_said_and_can_be_tried_again(page: Open, store: Store) -> None:
    run = done(recipe(bits=4))
    store.runs.add(run)
    store.latency.request(run.id)
    job = store.jobs.claim("somebody", Kind.LATENCY)
    assert job is not None
    store.jobs.fail(job, "The worker ran out of memory.")
    at = opened(page)
    assert "The measurement failed. The worker ran out of memory." in text_of(at)
    healthy(at.button(key="request_latency").click().run())
    again = store.jobs.get(run.id, Kind.LATENCY)
    assert again is not None and again.state is State.QUEUED


@pytest.mark.slow
def test_a_run_that_cannot_be_made_again_cannot_be_asked_for(page: Open, store: Store) -> None:
    run = done(recipe(bits=4)).model_copy(update={"stopped_early": True})
    store.runs.add(run)
    assert opened(page).button(key="request_latency").disabled
    store.files.put(run.id, b"its file")
    assert not opened(page).button(key="request_latency").disabled


def test_a_report_of_few_figures_is_shown_as_far_as_it_goes(page: Open, store: Store) -> None:
    run = done(recipe(bits=4))
    store.runs.add(run)
    store.latency.put(run.id, LatencyReport(layers=resnet_layers()[:1], notes=("No engine here.",)))
    at = opened(page)
    assert tabs(at) == ["Backends", "Layer by layer", "Notes"]
    assert "No backend could be timed." in text_of(at)
