"""The strip of the selected run, and what is said in the place of Run."""

from __future__ import annotations

import pytest

from compression.runs.results import Run
from compression.runs.statistics import Ratio
from compression.runs.store import Store, new_run
from tests.dashboard.page import Open, healthy, metric_values, text_of, unfolded
from tests.dashboard.runs import MODEL, done, fill, recipe


def with_ratio(run: Run, ratio: Ratio, busy: bool) -> Run:
    assert run.compressed is not None and run.compressed.latency is not None
    assert run.delta is not None
    latency = run.compressed.latency.model_copy(update={"on_busy_machine": busy})
    measured = run.compressed.model_copy(update={"latency": latency})
    delta = run.delta.model_copy(update={"latency_ratio": ratio})
    return run.model_copy(update={"compressed": measured, "delta": delta})


@pytest.mark.parametrize(
    ("low", "busy", "chip"),
    [(31.7, False, "60.1× faster"), (31.7, True, "machine was busy"), (0.9, False, "no clear")],
)
def test_no_speed_is_claimed_that_noise_may_have_made(
    page: Open, store: Store, low: float, busy: bool, chip: str
) -> None:
    run = with_ratio(done(recipe(bits=4)), Ratio(value=60.1, low=low, high=77.3), busy)
    store.runs.add(run)
    at = page(run=run.id)
    assert metric_values(at)["Latency"][1].startswith(chip)
    assert ("remeasure" in {b.key for b in at.button}) is busy


def test_what_was_stopped_early_was_not_measured_already(page: Open, store: Store) -> None:
    run = done(recipe(sparsity=0.8, bits=4))
    store.runs.add(run.model_copy(update={"stopped_early": True}))
    at = page(sparsity="0.8", bits="4")
    assert "Already measured" not in text_of(at)
    assert at.button(key="run").label == "Run"
    store.runs.add(done(recipe(sparsity=0.8, bits=4)))
    assert "Already measured" in text_of(healthy(at.run()))


def test_what_somebody_else_has_measured_just_now_is_said_to_be(page: Open, store: Store) -> None:
    failed = fill(store)[3]
    store.runs.add(new_run(MODEL, "fashion-mnist", failed.recipe), owner="somebody")
    assert store.jobs.claim("a runner") is not None
    at = page(run=failed.id)
    healthy(at.button(key="again").click().run())
    assert at.toast[0].value == "Just this is being measured already."


def test_names_of_widgets_are_plain_and_the_page_has_headings(page: Open, store: Store) -> None:
    fill(store)
    at = unfolded(page(model=MODEL))
    widgets = [*at.toggle, *at.slider, *at.selectbox, *at.segmented_control, *at.number_input]
    assert len(widgets) > 8
    assert not [w.label for w in widgets if "*" in w.label or not w.label]
    levels = [len(m.value) - len(m.value.lstrip("#")) for m in at.markdown if m.value[0] == "#"]
    assert levels[0] == 1 and levels.count(1) == 1 and 2 in levels
