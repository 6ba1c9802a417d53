"""The page itself, drawn from a real store in every state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from compression.catalogue.cards import cards
from compression.catalogue.preset_timings import Costs
from compression.catalogue.starting_points import starting_points
from compression.paths import STORE_VARIABLE
from compression.recipe.presets import (
    DEFAULT_PRESET,
    PRESETS,
    apply_preset,
    preset_of,
)
from compression.recipe.recipe import Recipe, parse
from compression.recipe.steps import STEPS, Prune, Quantize
from compression.runs.progress import Progress
from compression.runs.records import Runs, StoredRun
from compression.runs.results import ACTIVE, State
from compression.runs.store import Store, new_run
from dashboard.numbers import format as fmt
from dashboard.numbers.format import shortened
from dashboard.numbers.headline import smallest_within_a_point
from dashboard.server.launch import SCRIPT
from dashboard.state.form import PLAIN, with_preset
from dashboard.state.url import to_params
from dashboard.views.recipe.run_progress import under_way
from dashboard.views.runs_table import frame
from tests.dashboard.page import (
    Open,
    healthy,
    metric_values,
    queued,
    runs_table,
    shown,
    text_of,
    unfolded,
)
from tests.dashboard.runs import MODEL, done, ended, fill, recipe
from tests.dashboard.speeds import with_speeds

IMAGENET = "imagenet/resnet18"


def by(at: AppTest, amount: str) -> None:
    """Say how much to prune in another way."""
    healthy(at.segmented_control(key="amount").set_value(amount).run())


def method(at: AppTest, name: str) -> None:
    healthy(at.segmented_control(key="method").set_value(name).run())


def threshold_of(at: AppTest) -> float:
    value = at.slider(key="threshold").value
    assert isinstance(value, float)
    return value


@pytest.mark.slow
def test_empty_page_starts_a_run_in_one_click(page: Open, store: Store) -> None:
    at = page()
    assert at.selectbox(key="model").value == MODEL
    assert "Nothing measured for this model yet" in text_of(at)
    healthy(at.button(key="first_0").click().run())
    (entry,) = store.runs.find(MODEL)
    assert entry.run.state is State.QUEUED
    assert entry.run.recipe == starting_points(MODEL)[0].recipe
    assert at.query_params["run"] == entry.run.id


def test_the_first_models_are_the_bundled_ones(page: Open) -> None:
    options = page().selectbox(key="model").options
    bundled = [c.title for c in cards().values() if c.bundled]
    assert set(options[: len(bundled)]) == set(bundled)
    assert len(options) == len(cards())


@pytest.mark.slow
def test_sliders_make_the_recipe_the_sentence_and_the_url(page: Open, store: Store) -> None:
    at = page(threshold="0.003", bits="4")
    method(at, "fast")
    by(at, "sparsity")
    at.slider(key="sparsity").set_value(0.7).run()
    at.slider(key="bits").set_value(5).run()
    at.toggle(key="distill").set_value(True).run()
    healthy(at.slider(key="temperature").set_value(6.0).run())
    sentence = recipe(sparsity=0.7, bits=5, temperature=6.0).sentence()
    assert sentence in text_of(at)
    params = dict(at.query_params)
    plain = {**PLAIN, "distill": True}
    how = to_params(with_preset(plain, DEFAULT_PRESET)).items() - to_params(plain).items()
    asked = {"model": MODEL, "sparsity": "0.7", "bits": "5", "temperature": "6"}
    assert params == asked | dict(how)
    healthy(at.button(key="run").click().run())
    (entry,) = store.runs.find(MODEL)
    assert preset_of(entry.run.recipe) == DEFAULT_PRESET
    assert shortened(entry.run.recipe.sentence()) == sentence


@pytest.mark.slow
def test_sparsity_follows_the_threshold(page: Open) -> None:
    at = page(model=MODEL, threshold="0.01")
    weights = cards()[MODEL].weights
    assert weights is not None
    assert f"{100 * weights.sparsity(0.01):.1f}" in text_of(at)
    by(at, "sparsity")
    assert at.slider(key="sparsity").value == pytest.approx(weights.sparsity(0.01), abs=0.003)


@pytest.mark.slow
def test_a_method_sets_how_and_a_change_by_hand_makes_it_custom(page: Open, store: Store) -> None:
    at = unfolded(page(threshold="0.003", bits="4"))
    by(at, "sparsity")
    method(at, "better")
    assert at.selectbox(key="score").value == PRESETS["better"].values["prune"]["score"]
    assert preset_of(queued(at, store)) == "better"
    healthy(at.selectbox(key="clipping").set_value("minmax").run())
    assert at.segmented_control(key="method").value == "custom"
    recipe = queued(at, store)
    assert preset_of(recipe) is None
    assert isinstance(recipe.steps[1], Quantize) and recipe.steps[1].clipping == "minmax"
    healthy(at.selectbox(key="clipping").set_value("mse").run())
    assert at.segmented_control(key="method").value == "better"


@pytest.mark.slow
def test_what_is_asked_for_changes_no_method(page: Open, store: Store) -> None:
    at = unfolded(page(threshold="0.003", bits="4"))
    method(at, "best")
    healthy(at.selectbox(key="activation_bits").set_value(8).run())
    healthy(at.slider(key="bits").set_value(3).run())
    by(at, "sparsity")
    healthy(at.selectbox(key="pattern").set_value("channels").run())
    assert at.segmented_control(key="method").value == "best"
    assert at.selectbox(key="score").value == "taylor"
    healthy(at.selectbox(key="pattern").set_value("unstructured").run())
    assert at.segmented_control(key="method").value == "best"
    assert at.selectbox(key="score").value == PRESETS["best"].values["prune"]["score"]
    assert preset_of(queued(at, store)) == "best"


@pytest.mark.slow
def test_settings_without_effect_are_not_shown(page: Open) -> None:
    at = unfolded(page(threshold="0.01", bits="4"))
    assert not shown(at) & {"score", "scope", "pattern", "round_to", "sensitivity"}
    assert "Choose Sparsity for other" in text_of(at)
    by(at, "sparsity")
    assert {"score", "scope", "pattern", "update", "prune_repair"} <= shown(at)
    assert "Batch-norm scale" not in at.selectbox(key="score").options
    healthy(at.selectbox(key="pattern").set_value("channels").run())
    assert {"round_to", "update"} <= shown(at)
    assert "Batch-norm scale" in at.selectbox(key="score").options
    assert "By layer sensitivity" not in at.selectbox(key="scope").options
    healthy(at.selectbox(key="pattern").set_value("4:8").run())
    assert not shown(at) & {"sparsity", "threshold", "scope"}
    assert "Of every 8 weights in a row, 4 stay: sparsity is 50 %." in text_of(at)
    assert "Keep 4 of every 8 weights" in text_of(at)
    healthy(at.selectbox(key="pattern").set_value("unstructured").run())
    assert "sparsity" in shown(at)


@pytest.mark.slow
def test_no_threshold_is_drawn_where_none_decides(page: Open) -> None:
    at = unfolded(page(sparsity="0.8"))
    assert "Weights smaller than" in text_of(at)
    healthy(at.selectbox(key="score").set_value("fisher").run())
    assert "Weights smaller than" not in text_of(at)
    assert "The least important weights go" in text_of(at)


@pytest.mark.slow
def test_largest_loss_is_a_third_way_to_say_how_much(page: Open, store: Store) -> None:
    at = page(threshold="0.003", bits="4")
    by(at, "max_drop")
    healthy(at.slider(key="max_drop").set_value(0.5).run())
    assert "as many weights as an accuracy drop of 0.5 points allows" in text_of(at)
    assert dict(at.query_params)["max_drop"] == "0.5"
    (prune, _) = queued(at, store).steps
    assert isinstance(prune, Prune) and (prune.max_drop, prune.sparsity) == (0.5, None)


@pytest.mark.slow
def test_different_bits_per_layer_keep_the_average(page: Open, store: Store) -> None:
    at = unfolded(page(bits="4"))
    healthy(at.toggle(key="mixed").set_value(True).run())
    assert (at.slider(key="bits").value, at.number_input(key="average_bits").value) == (8, 4.0)
    assert "in 4 bits on average" in text_of(at)
    healthy(at.slider(key="bits").set_value(3).run())
    assert at.number_input(key="average_bits").value == 3.0
    (quantize,) = queued(at, store).steps
    assert isinstance(quantize, Quantize)
    assert (quantize.bits, quantize.average_bits) == (3, 3.0)
    healthy(at.toggle(key="mixed").set_value(False).run())
    assert at.slider(key="bits").value == 3
    assert "Store the weights in 3 bits.\n" in text_of(at)


@pytest.mark.slow
def test_a_reloaded_page_shows_the_same_method(page: Open) -> None:
    at = page(threshold="0.003", bits="4")
    by(at, "sparsity")
    method(at, "best")
    params = at.query_params.items()
    again = page(**{k: v if isinstance(v, str) else v[0] for k, v in params})
    assert again.segmented_control(key="method").value == "best"
    plain = page(sparsity="0.8", bits="4")
    assert plain.segmented_control(key="method").value == "custom"


def test_channels_are_refused_with_the_reason(page: Open) -> None:
    at = page(model="fashion-mnist/shufflenet_v2_x0_5", sparsity="0.5", pattern="channels")
    assert "channel shuffle" in text_of(at)
    assert at.button(key="run").disabled


@pytest.mark.slow
def test_the_cost_of_a_method_is_shown_once_measured(
    page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compression.catalogue.preset_timings.costs", Costs)
    assert "Takes about" not in text_of(page())
    measured = Costs(seconds={MODEL: {"fast": 3.2, "best": 75.0}})
    monkeypatch.setattr("compression.catalogue.preset_timings.costs", lambda: measured)
    at = page()
    method(at, "best")
    assert "Takes about 1 min 30 s, measuring included." in text_of(at)


def test_everything_off_measures_the_original(page: Open) -> None:
    at = page(steps="none")
    assert "Measure the original as it is." in text_of(at)
    assert at.slider(key="bits").disabled


def test_done_run_fills_the_four_cards(page: Open, store: Store) -> None:
    runs = fill(store)
    at = page(run=runs[0].id)
    values = metric_values(at)
    assert list(values) == ["Accuracy", "File size", "Latency", "Latency as int8"]
    assert values["Accuracy"] == ("91.5\N{NO-BREAK SPACE}%", "\N{MINUS SIGN}0.50 points")
    assert values["File size"] == ("1.83\N{NO-BREAK SPACE}MB", "24.5× smaller")
    assert values["Latency"] == ("0.930\N{NO-BREAK SPACE}ms", "1.08× faster")
    assert "The same label as the original for 96.1\N{NO-BREAK SPACE}% of images" in text_of(at)
    assert "Zeros make the file smaller" in text_of(at)


def test_without_a_selection_the_best_run_is_shown_and_stays(page: Open, store: Store) -> None:
    runs = fill(store)
    at = page()
    best = smallest_within_a_point(runs)
    assert best is not None and best.id in text_of(at)
    # somebody else's run ends meanwhile, and is better
    store.runs.add(done(recipe(sparsity=0.9, bits=2), 0.92, 300_000))
    assert best.id in text_of(healthy(at.run()))
    assert at.query_params["run"] == best.id


def test_without_a_good_run_the_newest_is_shown(page: Open, store: Store) -> None:
    for top1 in (0.5, 0.4):
        store.runs.add(done(recipe(bits=2, sparsity=top1), top1))
    assert store.runs.find(MODEL)[-1].run.id in text_of(page())


def test_failed_run_says_why_and_runs_again(page: Open, store: Store) -> None:
    failed = fill(store)[3]
    at = page(run=failed.id)
    assert "The worker ran out of memory (limit 2 GB)." in text_of(at)
    assert not at.metric
    healthy(at.button(key="again").click().run())
    (again,) = store.runs.find(MODEL, (State.QUEUED,))
    assert again.run.recipe == failed.recipe


def test_cancelled_run_says_so(page: Open, store: Store) -> None:
    at = page(run=fill(store)[4].id)
    assert "cancelled" in text_of(at)


def test_running_run_shows_progress_and_can_be_cancelled(page: Open, store: Store) -> None:
    store.runs.add(new_run(MODEL, "fashion-mnist", recipe(bits=4)))
    claimed = store.jobs.claim("somebody")
    assert claimed is not None
    store.jobs.report(claimed, Progress(stage="Quantizing", fraction=0.4, seconds_left=75))
    at = page()
    assert "Nothing measured" not in text_of(at)
    (progress,) = at.get("progress")
    assert progress.proto.text == "Quantizing · 40 % · about 1 min 15 s left"
    assert progress.proto.value == 40
    healthy(at.button(key=f"cancel_{claimed.run_id}").click().run())
    assert store.runs.get(claimed.run_id).cancelling
    assert at.button(key=f"cancel_{claimed.run_id}").disabled


def test_time_left_goes_on_between_two_reports(store: Store) -> None:
    store.runs.add(new_run(MODEL, "fashion-mnist", recipe(bits=4)))
    job = store.jobs.claim("somebody")
    assert job is not None
    store.jobs.report(job, Progress(stage="Packing", fraction=0.4, seconds_left=30))
    entry = store.runs.get(job.run_id)
    assert under_way(entry, entry.updated + 18) == "Packing · 40 % · about 12 s left"
    assert under_way(entry, entry.updated + 99) == "Packing · 40 %"


def test_queued_run_waits_and_is_cancelled_at_once(page: Open, store: Store) -> None:
    run = new_run(MODEL, "fashion-mnist", recipe(bits=4))
    store.runs.add(run)
    at = page(run=run.id)
    assert at.get("progress")[0].proto.text == "First in the queue"
    healthy(at.button(key=f"cancel_{run.id}").click().run())
    assert store.runs.get(run.id).run.state is State.CANCELLED


def test_queued_run_says_when_it_starts_whosever_runs_are_ahead(page: Open, store: Store) -> None:
    other, mine = "fashion-mnist/squeezenet1_1", new_run(MODEL, "fashion-mnist", recipe(bits=4))
    store.runs.add(done(recipe(bits=4), model=other).model_copy(update={"seconds": 60.0}))
    for bits in (5, 6):
        store.runs.add(new_run(other, "fashion-mnist", recipe(bits=bits)), owner="somebody")
    store.runs.add(mine)
    claimed = store.jobs.claim("a runner")
    assert claimed is not None
    store.jobs.report(claimed, Progress(stage="Quantizing", fraction=0.4, seconds_left=60))
    text = page().get("progress")[0].proto.text
    assert text == "Second in the queue · starts in about 2 min"


def test_what_is_only_queued_is_not_said_to_be_measured(page: Open, store: Store) -> None:
    failed = fill(store)[3]
    store.runs.add(new_run(MODEL, "fashion-mnist", failed.recipe), owner="somebody")
    at = page(run=failed.id)
    healthy(at.button(key="again").click().run())
    assert at.toast[0].value == "Just this is queued already."


def test_a_run_whose_worker_ended_says_so(page: Open, store: Store) -> None:
    store.runs.add(new_run(MODEL, "fashion-mnist", recipe(bits=4)))
    assert store.jobs.claim("a runner") is not None
    store.jobs.release("a runner")
    assert page().get("progress")[0].proto.text == "Its worker ended: first in the queue"
    job = store.jobs.claim("another")
    assert job is not None
    again = "Starting again after its worker ended · attempt 2"
    assert page().get("progress")[0].proto.text == again
    store.jobs.report(job, Progress(stage="Packing", fraction=0.4))
    assert page().get("progress")[0].proto.text == "Packing · 40 % · attempt 2"


def test_clicked_point_selects_its_run(page: Open, store: Store) -> None:
    runs = fill(store)
    at = page(run=runs[0].id)
    event = {"selection": {"points": [{"customdata": [runs[1].id]}]}}
    at.session_state["trade_off"] = event
    from dashboard.views.run import results

    assert results.run_of(event) == runs[1].id
    assert results.run_of({"selection": {"points": []}}) is None


def test_the_original_has_figures_of_its_own(page: Open, store: Store) -> None:
    fill(store)
    at = page(model=MODEL, run="original")
    assert "**The original**" in text_of(at)
    values = {label: value for label, (value, _) in metric_values(at).items()}
    assert values["Accuracy"] == "92.0\xa0%"
    assert values["File size"] == "44.8\xa0MB"
    assert at.query_params["run"] == "original"
    assert not at.warning


def test_a_projector_gets_the_sentence_the_figures_and_the_chart(page: Open, store: Store) -> None:
    fill(store)
    at = page(model=MODEL)
    healthy(at.button(key="present").click().run())
    assert at.query_params["size"] == "large"
    keys = {b.key for b in at.button}
    assert "present" in keys and not {"run", "use", "delete_run"} & keys
    assert "times smaller" in text_of(at)
    assert "Accuracy" in metric_values(at)
    assert len(at.get("plotly_chart")) == 1
    healthy(at.button(key="present").click().run())
    assert "size" not in at.query_params
    assert "run" in {b.key for b in at.button}


def test_what_is_seen_of_the_chart_is_in_the_url(page: Open, store: Store) -> None:
    fill(store)
    at = page(model=MODEL, y="speedup", solid="yes")
    figure = json.loads(at.get("plotly_chart")[0].proto.spec)
    assert figure["data"][0]["type"] == "scatter3d"
    healthy(at.toggle(key="solid").set_value(False).run())
    healthy(at.selectbox(key="axis_y").set_value("change").run())
    assert "solid" not in at.query_params
    assert at.query_params["y"] == "change"


def test_use_these_settings_moves_the_sliders(page: Open, store: Store) -> None:
    at = page(run=fill(store)[2].id)
    healthy(at.button(key="use").click().run())
    assert at.slider(key="bits").value == 3
    assert at.slider(key="sparsity").value == 0.95


def test_same_settings_are_offered_not_measured_again(page: Open, store: Store) -> None:
    runs = fill(store)
    at = page(sparsity="0.8", bits="4")
    assert "Already measured: 91.5" in text_of(at)
    assert at.button(key="run").label == "Run again"
    healthy(at.button(key="show_same").click().run())
    assert at.query_params["run"] == runs[0].id


def test_a_browser_that_is_one_address_behind_takes_nothing_back(page: Open, store: Store) -> None:
    runs = fill(store)
    at = page(sparsity="0.8", bits="4", run=runs[2].id)
    before = dict(at.query_params)
    healthy(at.button(key="show_same").click().run())
    after = dict(at.query_params)
    assert (before["run"], after["run"]) == (runs[2].id, runs[0].id)
    for name, values in before.items():  # a slider is moved before the browser shows the new one
        at.query_params[name] = values
    healthy(at.slider(key="bits").set_value(5).run())
    assert dict(at.query_params) == {**after, "bits": "5"}


def test_emptying_a_layer_is_refused_before_it_is_queued(page: Open) -> None:
    at = page(threshold="5")
    assert "every weight of" in text_of(at)
    assert at.button(key="run").disabled


def test_wrong_url_parameters_are_named_and_do_no_harm(page: Open) -> None:
    at = page(model="nonsense", bits="33", run="abc", threshold="-1")
    shown = text_of(at)
    for part in ("'nonsense'", "'33'", "'abc'", "'-1'"):
        assert part in shown
    assert at.selectbox(key="model").value == MODEL
    healthy(at.button(key="dismiss").click().run())
    assert "'33'" not in text_of(at)


@pytest.mark.slow
def test_model_without_images_runs_for_size_and_latency_only(page: Open, store: Store) -> None:
    at = page(model=IMAGENET, sparsity="0.5", bits="8")
    method(at, "fast")
    assert at.toggle(key="distill").disabled
    shown = text_of(at)
    assert "Accuracy needs a data set" in shown
    assert "this model has none here" in shown
    assert "Better and Best need calibration images" in shown
    assert set(at.segmented_control(key="method").options) == {"Fast", "Custom"}
    assert "Largest drop" not in at.segmented_control(key="amount").options
    assert "shown after the model's first run" in shown
    healthy(at.button(key="run").click().run())
    assert store.runs.find(IMAGENET)[0].run.dataset is None


def test_model_without_images_shows_its_runs(page: Open, store: Store) -> None:
    store.runs.add(done(recipe(bits=8), None, 11_000_000, 17.0, 0.0, IMAGENET))
    store.runs.add(done(recipe(bits=4), None, 6_000_000, 16.0, 0.0, IMAGENET))
    values = metric_values(page(model=IMAGENET))
    assert values["Accuracy"][0] == "–"
    assert values["File size"][0] == "6.00\N{NO-BREAK SPACE}MB"


def test_changing_the_model_keeps_the_sparsity(page: Open) -> None:
    at = page(threshold="0.003", bits="4")
    before = cards()[MODEL].weights
    assert before is not None
    share = before.sparsity(threshold_of(at))
    other = next(c for c in cards().values() if c.bundled and c.id != MODEL)
    healthy(at.selectbox(key="model").set_value(other.id).run())
    assert other.weights is not None
    now = threshold_of(at)
    assert other.weights.sparsity(now) == pytest.approx(share, abs=0.01)


def test_until_something_is_set_each_model_begins_with_its_own_settings(page: Open) -> None:
    other = "fashion-mnist/mobilenet_v3_small"
    at = page()
    healthy(at.selectbox(key="model").set_value(other).run())
    first = starting_points(other)[0].recipe
    assert fmt.shortened(first.sentence()) in text_of(at)
    healthy(at.slider(key="bits").set_value(7).run())
    healthy(at.selectbox(key="model").set_value(MODEL).run())
    assert at.slider(key="bits").value == 7  # it is the person's own now


def test_a_run_alone_names_its_model(page: Open, store: Store) -> None:
    run = done(recipe(bits=4), model="fashion-mnist/squeezenet1_1")
    store.runs.add(run)
    at = page(run=run.id)
    assert at.selectbox(key="model").value == run.model
    assert "could not be used" not in text_of(at)


def test_a_store_that_goes_away_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, f"sqlite:///{tmp_path}")
    at = healthy(AppTest.from_file(str(SCRIPT), default_timeout=30).run())
    assert len(at.error) == 1
    assert at.error[0].value.startswith("store: ")


@pytest.mark.slow
def test_table_lists_every_run_and_filters(page: Open, store: Store) -> None:
    fill(store)
    store.runs.add(ended(State.FAILED, recipe(bits=6), "Another reason."))
    at = page()
    assert len(runs_table(at)) == 6
    at.multiselect(key="filter_states").set_value(["failed"]).run()
    assert len(runs_table(at)) == 2
    healthy(at.text_input(key="filter_words").set_value("MEMORY").run())
    assert len(runs_table(at)) == 1
    filters = {"states": "failed", "words": "MEMORY"}
    assert filters.items() <= at.query_params.items()
    assert len(runs_table(page(**filters))) == 1


def test_points_are_reached_one_after_the_other(page: Open, store: Store) -> None:
    sizes = {run.id: run.delta.size_ratio for run in fill(store) if run.delta is not None}
    at = page(run="original")
    for run_id in sorted(sizes, key=lambda run_id: sizes[run_id] or 0):
        healthy(at.button(key="step_right").click().run())
        assert at.query_params["run"] == run_id
    assert at.button(key="step_right").disabled


def test_table_has_the_speed_in_int8_where_it_was_taken(store: Store) -> None:
    store.runs.add(with_speeds(done(recipe(bits=4)), int8_ms=0.88))
    store.runs.add(with_speeds(done(recipe(bits=3)), int8_ms=None))
    table = frame(store.runs.find(MODEL))
    assert list(table["int8_mb"])[1:] == [11.4] and table["int8_latency_ms"].isna()[0]
    assert table["int8_latency_ms"][1] * table["int8_ratio"][1] == pytest.approx(2.53)
    assert table["int8_ratio_low"][1] < table["int8_ratio"][1] < table["int8_ratio_high"][1]


def test_table_names_the_method(store: Store) -> None:
    for name in PRESETS:
        steps = tuple(
            parse(STEPS[step], apply_preset(name, {"step": step, **values}))
            for step, values in (("prune", {"sparsity": 0.8}), ("quantize", {"bits": 4}))
        )
        store.runs.add(done(Recipe(steps=steps)))
    store.runs.add(done(recipe(sparsity=0.8, score="random")))
    store.runs.add(done(recipe(temperature=4.0)))  # with augmentation
    store.runs.add(done(Recipe()))
    methods = frame(store.runs.find(MODEL))["method"]
    assert list(methods[1:]) == ["Custom", "Custom", *(p.title for p in reversed(PRESETS.values()))]
    assert list(methods.isna()) == [True] + 5 * [False]


@pytest.mark.slow
def test_one_drawing_of_the_page_reads_the_runs_once(
    page: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    at = page()
    reads: list[tuple[State, ...]] = []
    find = Runs.find

    def counted(runs: Runs, *arguments: Any, states: tuple[State, ...] = ()) -> list[StoredRun]:
        reads.append(states)
        return find(runs, *arguments, states=states)

    monkeypatch.setattr(Runs, "find", counted)
    healthy(at.run())
    assert sorted(reads) == [(), ACTIVE]  # all of the model, and the short queue of all models
