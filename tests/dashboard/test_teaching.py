"""The page for training: its settings, what is seen while it runs, and what is kept of it."""

from __future__ import annotations

from compression.steps import Distill, Prune
from compression.store import Store
from tests.dashboard.page import Open, healthy, queued, shown, text_of


def test_settings_of_training_without_effect_are_not_shown(page: Open) -> None:
    at = page(bits="4", temperature="4")
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


def test_every_kind_of_setting_reaches_the_recipe_and_the_url(page: Open, store: Store) -> None:
    at = page(bits="4", temperature="4")
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
    again = page(**{k: v if isinstance(v, str) else v[0] for k, v in at.query_params.items()})
    assert queued(again, store).steps[1] == expected
    assert again.text_input(key="layers").value == "a, b"


def test_what_is_left_empty_is_unset(page: Open, store: Store) -> None:
    at = page(bits="4", temperature="4", images="2000", early_stopping="2")
    assert at.number_input(key="images").value == 2000
    healthy(at.number_input(key="images").set_value(None).run())
    healthy(at.number_input(key="early_stopping").set_value(None).run())
    assert queued(at, store).steps[1] == Distill()


def test_another_model_is_taught_first_and_then_compressed(page: Open, store: Store) -> None:
    at = page(sparsity="0.5", temperature="4")
    box = at.selectbox(key="student")
    assert "initial" not in shown(at)
    assert box.options[0] == "This model itself"
    assert len(box.options) == 5  # the four other bundled models have the same images
    healthy(box.set_value("fashion-mnist/squeezenet1_1").run())
    assert "initial" in shown(at)
    healthy(at.selectbox(key="initial").set_value("fresh").run())
    assert "once the student has been taught" in text_of(at)
    first, second = queued(at, store).steps
    assert first == Distill(student="fashion-mnist/squeezenet1_1", initial="fresh")
    assert isinstance(second, Prune)
    # it cannot be its own student
    healthy(at.selectbox(key="model").set_value("fashion-mnist/squeezenet1_1").run())
    assert at.selectbox(key="student").value == ""
    assert "fashion-mnist/squeezenet1_1" not in dict(at.query_params).get("student", "")


def test_a_student_that_cannot_be_taught_is_named(page: Open) -> None:
    at = page(temperature="4", student="imagenet/resnet18")
    assert "student: 'imagenet/resnet18' is not another model" in text_of(at)
    assert at.selectbox(key="student").value == ""
