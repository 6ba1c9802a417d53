"""The page for training: its settings, what is seen while it runs, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from compression.catalogue import examples
from compression.paths import STORE_VARIABLE
from compression.recipe.recipe import Recipe
from compression.recipe.steps import Distill, Prune, Quantize
from compression.runs.progress import Point, Progress
from compression.runs.results import State
from compression.runs.statistics import Interval
from compression.runs.store import Store, new_run, open_store
from dashboard.state import stored
from dashboard.views.recipe.advanced import OPEN
from dashboard.views.runs_table import frame
from tests.dashboard.page import (
    Open,
    healthy,
    metric_values,
    open_tab,
    queued,
    runs_table,
    shown,
    text_of,
    unfolded,
)
from tests.dashboard.runs import MODEL, curve, done, ended, fill, recipe, sweep


@pytest.mark.slow
def test_settings_of_training_without_effect_are_not_shown(page: Open) -> None:
    at = unfolded(page(bits="4", temperature="4"))
    assert {"loss", "alpha", "epochs", "images", "optimizer", "momentum", "student"} <= shown(at)
    assert not shown(at) & {"other_classes", "layers", "layer_weight", "decay", "patience"}
    healthy(at.selectbox(key="loss").set_value("features").run())
    assert {"layers", "layer_weight"} <= shown(at)
    healthy(at.selectbox(key="loss").set_value("dkd").run())
    assert "other_classes" in shown(at)
    assert not shown(at) & {"layers", "mixup"}
    healthy(at.selectbox(key="schedule").set_value("plateau").run())
    assert {"decay", "patience"} <= shown(at)
    healthy(at.selectbox(key="schedule").set_value("one-cycle").run())
    assert not shown(at) & {"decay", "patience", "warmup"}
    healthy(at.selectbox(key="optimizer").set_value("adamw").run())
    assert "momentum" not in shown(at)


@pytest.mark.slow
def test_every_kind_of_setting_reaches_the_recipe_and_the_url(page: Open, store: Store) -> None:
    at = unfolded(page(bits="4", temperature="4"))
    healthy(at.selectbox(key="loss").set_value("attention").run())
    healthy(at.text_input(key="layers").set_value(" b,a ,").run())
    healthy(at.number_input(key="images").set_value(2000).run())
    healthy(at.number_input(key="early_stopping").set_value(3).run())
    healthy(at.number_input(key="weight_decay").set_value(0.003).run())
    healthy(at.selectbox(key="precision").set_value("bfloat16").run())
    (_, step) = queued(at, store).steps
    expected = Distill(
        loss="attention",
        layers=("a", "b"),
        images=2000,
        early_stopping=3,
        weight_decay=0.003,
        precision="bfloat16",
    )
    assert step == expected
    params = {k: v if isinstance(v, str) else v[0] for k, v in at.query_params.items()}
    again = page(**params | {"seed": "1"})  # with the same seed it is under way
    assert queued(again, store).steps[1] == expected
    assert unfolded(again).text_input(key="layers").value == "a, b"


@pytest.mark.slow
def test_what_is_set_stays_when_it_is_folded_away(page: Open, store: Store) -> None:
    at = unfolded(page(bits="4", temperature="4"))
    healthy(at.selectbox(key="optimizer").set_value("adamw").run())
    healthy(at.number_input(key="images").set_value(2000).run())
    at.session_state[OPEN] = False
    healthy(at.run())
    assert not {"optimizer", "images"} & shown(at)
    healthy(at.slider(key="bits").set_value(3).run())
    assert queued(at, store).steps[1] == Distill(optimizer="adamw", images=2000)
    assert unfolded(at).selectbox(key="optimizer").value == "adamw"


@pytest.mark.slow
def test_what_is_left_empty_is_unset(page: Open, store: Store) -> None:
    at = unfolded(page(bits="4", temperature="4", images="2000", early_stopping="2"))
    assert at.number_input(key="images").value == 2000
    healthy(at.number_input(key="images").set_value(None).run())
    healthy(at.number_input(key="early_stopping").set_value(None).run())
    assert queued(at, store).steps[1] == Distill()


@pytest.mark.slow
def test_another_model_is_trained_first_and_then_compressed(page: Open, store: Store) -> None:
    at = unfolded(page(sparsity="0.5", temperature="4"))
    box = at.selectbox(key="student")
    assert "initial" not in shown(at)
    assert box.options[0] == "This model itself"
    assert len(box.options) == 5  # the four other bundled models have the same images
    healthy(box.set_value("fashion-mnist/squeezenet1_1").run())
    assert "initial" in shown(at)
    healthy(at.selectbox(key="initial").set_value("fresh").run())
    assert "once the student has been trained" in text_of(at)
    first, second = queued(at, store).steps
    assert first == Distill(student="fashion-mnist/squeezenet1_1", initial="fresh")
    assert isinstance(second, Prune)
    # it cannot be its own student
    healthy(at.selectbox(key="model").set_value("fashion-mnist/squeezenet1_1").run())
    assert at.selectbox(key="student").value == ""
    assert "fashion-mnist/squeezenet1_1" not in dict(at.query_params).get("student", "")


def test_a_student_that_cannot_be_trained_is_named(page: Open) -> None:
    at = unfolded(page(temperature="4", student="imagenet/resnet18"))
    assert "student: 'imagenet/resnet18' has other images or classes" in text_of(at)
    assert at.selectbox(key="student").value == ""


def point(**more: float) -> Point:
    values = {"loss": 0.412, "hard": 0.9, "soft": 0.358, "images_per_second": 1840.0} | more
    return Point(
        step=40,
        epoch=0.5,
        learning_rate=0.008,
        top1=Interval(value=0.881, low=0.872, high=0.889, n=5000),
        **values,
    )


def training(store: Store, **more: object) -> str:
    """A run in training, with its curve so far."""
    run = new_run(MODEL, "fashion-mnist", recipe(bits=4, temperature=4.0))
    store.runs.add(run)
    job = store.jobs.claim("somebody")
    assert job is not None
    values = {"stage": "Training", "epochs": 5, "fraction": 0.4, "seconds_left": 75}
    values["point"] = point()
    store.jobs.report(job, Progress.model_validate(values | more))
    store.curves.put(run.id, curve((0.5, 0.88), epochs=0.5, planned=2.0))
    return run.id


def test_what_is_learned_is_seen_while_it_trains(page: Open, store: Store) -> None:
    run_id = training(store)
    at = page()
    text = text_of(at).replace("\N{NO-BREAK SPACE}", " ")
    for figure in ("**0.412**", "**0.900**", "**0.358**", "**88.1 %**", "**0.00800**", "**1,840**"):
        assert figure in text
    assert "validation, 87.2 to 88.9" in text
    told = at.get("progress")[0].proto.text
    assert told == "Training, epoch 1 of 5 · 40 % · about 1 min 15 s left"
    assert len(at.get("plotly_chart")) == 2  # the loss, the accuracy
    assert at.button(key=f"cancel_{run_id}").label == "Cancel"


def test_what_there_is_can_be_kept(page: Open, store: Store) -> None:
    run_id = training(store, keeps=True)
    at = page()
    stop = at.button(key=f"cancel_{run_id}")
    assert stop.label == "Stop and keep"
    assert "best model so far" in stop.help
    healthy(stop.click().run())
    assert store.runs.get(run_id).cancelling
    assert at.button(key=f"cancel_{run_id}").label == "Stopping"
    assert at.button(key=f"cancel_{run_id}").disabled
    job = store.jobs.get(run_id)
    assert job is not None
    store.jobs.kept(job)  # what follows can be cancelled for good
    store.jobs.report(job, Progress(stage="Measuring", fraction=0.1))
    assert healthy(at.run()).button(key=f"cancel_{run_id}").label == "Cancel"


def test_what_has_been_learned_is_not_lost_to_a_late_click(page: Open, store: Store) -> None:
    run_id = training(store, keeps=True)
    at = page()
    job = store.jobs.get(run_id)
    assert job is not None
    store.jobs.report(job, Progress(stage="Measuring", fraction=0.1))
    healthy(at.button(key=f"cancel_{run_id}").click().run())
    assert not store.runs.get(run_id).cancelling
    assert "just ended" in at.toast[0].value


def test_many_that_wait_are_one_line(page: Open, store: Store) -> None:
    runs = [new_run(MODEL, "fashion-mnist", recipe(bits=b)) for b in range(2, 9)]
    for run in runs:
        store.runs.add(run)
    at = page()
    assert "**6 more runs** are waiting" in text_of(at)
    healthy(at.button(key="cancel_waiting").click().run())
    assert [store.runs.get(r.id).run.state for r in runs] == [State.QUEUED, *6 * [State.CANCELLED]]


def test_a_run_that_was_stopped_early_is_marked(page: Open, store: Store) -> None:
    run = done(recipe(bits=4, temperature=4.0)).model_copy(update={"stopped_early": True})
    store.runs.add(run)
    store.runs.add(done(recipe(bits=4)))
    store.curves.put(run.id, curve((0.5, 0.9), epochs=0.75, planned=2.0))
    at = page(run=run.id)
    assert ":material/stop_circle: stopped early]" in text_of(at)
    assert "It was stopped at epoch 0.75 of 2." in text_of(open_tab(at, "Training"))
    table = runs_table(at)
    assert list(table["state"]) == ["done", "done, stopped early"]
    assert list(frame(store.runs.find(MODEL))["stopped_early"]) == [False, True]


@pytest.mark.slow
def test_how_it_learned_beside_others_by_the_url(page: Open, store: Store) -> None:
    runs = [done(recipe(bits=4, temperature=t)) for t in (1.0, 2.0, 4.0)]
    for run, top in zip(runs, (0.9, 0.91, 0.93), strict=True):
        store.runs.add(run)
        store.curves.put(run.id, curve((0.5, 0.8, top)))
    store.runs.add(done(recipe(bits=4)))
    at = page(run=runs[0].id, tab="Training")
    assert "Validation accuracy rose from 50.0" in text_of(at)
    box = at.multiselect(key="compare")
    assert [o.split(" · ")[0] for o in box.options] == ["T = 4", "T = 2"]
    healthy(box.set_value([runs[2].id]).run())
    assert dict(at.query_params)["compare"] == runs[2].id
    assert "“T = 4” reached the highest accuracy, 93.0" in text_of(at)
    healthy(at.slider(key="bits").set_value(5).run())
    params = {k: v if isinstance(v, str) else v[0] for k, v in at.query_params.items()}
    assert params["compare"] == runs[2].id
    again = page(**params | {"compare": f"{runs[2].id},nonsense,{runs[0].id}"})
    assert again.multiselect(key="compare").value == [runs[2].id]


def test_without_training_there_is_nothing_to_have_learned(page: Open, store: Store) -> None:
    fill(store)
    store.runs.add(done(recipe(bits=4, temperature=4.0)))  # made before curves were kept
    at = page()
    assert "Training: loss, validation accuracy" not in text_of(at)
    assert not at.multiselect(key="filter_states").disabled


def test_a_failed_run_shows_how_far_it_got(page: Open, store: Store) -> None:
    run = ended(State.FAILED, recipe(bits=4, temperature=4.0), "The loss became nan at step 7.")
    store.runs.add(run)
    store.curves.put(run.id, curve((0.5, 0.8), epochs=0.5, planned=2.0))
    assert "Training: loss, validation accuracy" in text_of(page(run=run.id, tab="Training"))


@pytest.mark.slow
def test_which_temperature_is_asked_in_one_click(page: Open, store: Store) -> None:
    at = unfolded(page(sparsity="0.9", bits="3", loss="dkd", epochs="9", steps="x"))
    button = at.button(key="try_temperatures")
    assert button.label == "Which temperature? Try it in 12 runs"
    assert "10,000 images" in button.help
    healthy(button.click().run())
    entries = store.runs.find(MODEL)
    assert len(entries) == 12
    for entry in entries:
        step = entry.run.recipe.steps[-1]
        assert isinstance(step, Distill)
        assert (step.images, step.epochs, step.loss) == (10_000, 1, "dkd")
    assert at.button(key="try_temperatures").disabled
    store.jobs.cancel(entries[0].run.id)
    assert healthy(at.run()).button(key="try_temperatures").label.endswith("1 run")


@pytest.mark.slow
def test_raw_answers_have_no_temperature_to_try(page: Open) -> None:
    at = unfolded(page(bits="3", temperature="4", loss="logits"))
    assert at.button(key="try_temperatures").disabled
    assert not unfolded(page(bits="3")).button(key="try_temperatures").disabled


def test_which_temperature_is_answered_by_finished_runs(page: Open, store: Store) -> None:
    pairs = {(t, a): 0.9 + t / 1000 for t in (1.0, 2.0, 4.0) for a in (0.5, 0.9)}
    runs = sweep({"bits": 3}, pairs)
    for run in runs:
        store.runs.add(run)
    at = page(run=runs[0].id, tab="Training")
    assert "T = 4 with alpha 0.5 did best" in text_of(at)
    table = at.dataframe(key="temperature_table").value
    assert list(table["Temperature"]) == ["T = 1", "T = 2", "T = 4"]
    assert list(table.columns) == ["Temperature", "Alpha 0.5", "Alpha 0.9"]


@pytest.mark.slow
def test_a_new_store_begins_with_the_examples(
    page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = done(recipe(sparsity=0.95, bits=3, temperature=4.0))
    example = examples.Example(
        name="small",
        title="Very small",
        description="What training can do.",
        run=run,
        curves=(curve((0.5, 0.9), at=2),),
    )
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "small.json").write_text(example.model_dump_json())
    monkeypatch.setattr(examples, "assets_dir", lambda: tmp_path)
    stored._examples.cache_clear()
    new = open_store(f"sqlite:///{tmp_path / 'new.sqlite'}")
    monkeypatch.setenv(STORE_VARIABLE, new.url)
    at = page()
    text = text_of(at)
    assert "Nothing measured" not in text
    assert "**Very small.** What training can do." in text
    assert ":material/bookmark: example]" in text
    assert "Training: loss, validation accuracy" in text_of(open_tab(at, "Training"))
    other = page(model="fashion-mnist/squeezenet1_1")
    assert "Nothing measured for this model yet" in text_of(other)
    assert [e.run.id for e in new.runs.find()] == [run.id]
    stored._examples.cache_clear()


@pytest.mark.slow
def test_a_student_is_a_run_of_the_model_it_learned_from(page: Open, store: Store) -> None:
    steps = (Distill(student="fashion-mnist/squeezenet1_1"), Quantize(bits=4))
    run = done(Recipe(steps=steps), 0.9, 400_000)
    store.runs.add(run)
    at = unfolded(page(run=run.id))
    assert "distill into fashion-mnist/squeezenet1_1" in text_of(at).lower()
    assert metric_values(at)["File size"][0] == "400\N{NO-BREAK SPACE}kB"
    assert "The same label as the original for" in text_of(at)
    healthy(at.button(key="use").click().run())
    assert at.selectbox(key="student").value == "fashion-mnist/squeezenet1_1"
    assert "Already measured: 90.0" in text_of(at)
