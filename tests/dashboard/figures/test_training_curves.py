"""Training histories: the numbers, the sentences, and the figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.figures import training_curves
from dashboard.numbers import training_history
from dashboard.numbers.run_labels import distinct_labels, label_beside
from tests.dashboard.runs import curve, done, recipe

PAGE = Path(training_curves.__file__).parents[1]
DISTILLED = recipe(bits=4, temperature=4.0)
ACCURACIES = st.lists(st.integers(50, 950).map(lambda v: v / 1000), min_size=2, max_size=9)


def trained(*accuracies: float, **more: float) -> training_history.TrainingHistory:
    return training_history.training_history(done(DISTILLED), [curve(accuracies, **more)])  # type: ignore[arg-type]


@pytest.mark.slow
@given(ACCURACIES, ACCURACIES)
def test_one_step_follows_the_other_on_one_axis(first: list[float], second: list[float]) -> None:
    steps = [curve(tuple(first), at=1, epochs=2.0), curve(tuple(second), at=3, epochs=0.5)]
    history = training_history.training_history(done(DISTILLED), steps)
    assert [s.at for s in history.steps] == [1, 3]
    assert history.steps[0].end == history.steps[1].start == pytest.approx(2.0)
    assert history.end == history.planned == pytest.approx(2.5)
    assert [check.value for check in history.checks] == [*first, *second]
    x, y = training_history.series(history, lambda p: p.learning_rate)
    assert x == sorted(x)
    assert y.count(None) == 1  # where the second begins
    assert len(x) == sum(len(c.points) for c in steps) + 1


@given(ACCURACIES)
def test_nothing_rises_out_of_the_interval_once_it_has_settled(accuracies: list[float]) -> None:
    history = trained(*accuracies)
    settled = training_history.settled_after(history.checks)
    checks = history.checks
    later = [check for check in checks if settled is not None and check.epoch > settled]
    at = next((check for check in checks if check.epoch == settled), None)
    if at is not None:
        assert all(check.value <= at.high for check in later)
        for earlier in checks[: checks.index(at)]:
            assert max(check.value for check in checks[checks.index(earlier) + 1 :]) > earlier.high
    else:
        assert checks[-1].value > checks[-2].high


@pytest.mark.parametrize(
    ("accuracies", "says"),
    [
        ((0.612, 0.9, 0.925, 0.928, 0.927), "rose from 61.2 % to 92.8 % and had stopped rising"),
        ((0.5, 0.6, 0.7, 0.8), "rose from 50.0 % to 80.0 % and was still rising at the end."),
        ((0.5, 0.8, 0.9, 0.905), "rose from 50.0 % to 90.5 %, but no longer clearly at the last"),
        ((0.5, 0.9, 0.905), "3 checks are too few to tell whether it had stopped rising."),
        ((0.5, 0.6), "2 checks are too few to tell"),
        ((0.9, 0.85, 0.8), "fell from 90.0 % to 80.0 %."),
        ((0.9, 0.899, 0.895), "did not rise above 90.0 %."),
        ((0.9, 0.903, 0.901), "hardly moved from 90.0 %; its best was 90.3 %"),
    ],
)
def test_what_to_notice(accuracies: tuple[float, ...], says: str) -> None:
    text = training_history.notice(trained(*accuracies)).replace("\N{NO-BREAK SPACE}", " ")
    assert says in text
    assert "The original has 92.0 %." in text


def test_where_it_stopped_rising_and_where_it_was_stopped() -> None:
    history = trained(0.612, 0.9, 0.925, 0.928, 0.927, epochs=2.0)
    assert "after epoch 1." in training_history.notice(history)
    run = done(DISTILLED).model_copy(update={"stopped_early": True})
    early = training_history.training_history(run, [curve((0.5, 0.9), epochs=0.75, planned=3.0)])
    assert "It was stopped at epoch 0.75 of 3." in training_history.notice(early)


def test_the_furthest_of_several_is_named_and_chance_is_admitted() -> None:
    history = trained(0.5, 0.9)
    other = training_history.training_history(done(DISTILLED), [curve((0.5, 0.92))], "alpha 0")
    assert "“alpha 0” reached the highest accuracy, 92.0" in training_history.comparison_notice(
        history, [other]
    )
    assert "no other comes within" in training_history.comparison_notice(history, [other])
    near = training_history.training_history(done(DISTILLED), [curve((0.5, 0.895))], "alpha 1")
    assert "this run reached the highest accuracy" in training_history.comparison_notice(
        history, [near]
    )
    assert "may be chance" in training_history.comparison_notice(history, [near])


def test_bars_are_the_intervals_in_percent() -> None:
    history = trained(0.5, 0.9)
    line = training_curves.accuracy_figure(history, history.end).data[0]
    assert list(line.y) == pytest.approx([50.0, 90.0])
    assert list(line.error_y.array) == pytest.approx([0.7, 0.7])
    assert list(line.error_y.arrayminus) == pytest.approx([0.8, 0.8])


def test_parts_of_the_loss_are_drawn_where_they_are_parts() -> None:
    both = training_history.training_history(done(DISTILLED), [curve((0.5, 0.9))])
    names = [t.name for t in training_curves.loss_figure(both, 2.0).data]
    assert names[0] == "Loss"
    assert {n.split()[0] for n in names[1:]} == {"Hard", "Soft"}
    labels = training_history.training_history(done(DISTILLED), [curve((0.5, 0.9), soft=False)])
    assert [t.name for t in training_curves.loss_figure(labels, 2.0).data] == ["Loss"]


def test_every_figure_names_its_axis_and_reaches_the_end() -> None:
    history = trained(0.5, 0.9, epochs=1.0, planned=4.0)
    figures = [
        training_curves.loss_figure(history, 4.0),
        training_curves.accuracy_figure(history, 4.0),
    ]
    for figure in (*figures, training_curves.rate_figure(history, 4.0)):
        assert "Epoch" in figure.layout.xaxis.title.text
        assert figure.layout.yaxis.title.text
        assert figure.layout.xaxis.range[1] >= 4.0


def test_a_low_start_does_not_flatten_the_rest() -> None:
    figure = training_curves.accuracy_figure(trained(0.1, 0.85, 0.9, 0.91, 0.915), 2.0)
    assert figure.layout.yaxis.range[0] > 80
    assert figure.layout.yaxis.range[1] > 92  # the original's line is seen
    for few in ((0.85, 0.88, 0.9), (0.1, 0.9)):
        assert training_curves.accuracy_figure(trained(*few), 2.0).layout.yaxis.range is None


def test_steps_of_a_recipe_are_marked_where_they_begin() -> None:
    history = training_history.training_history(
        done(DISTILLED), [curve((0.5, 0.9), at=1), curve((0.8, 0.9), at=3)]
    )
    figure = training_curves.loss_figure(history, history.end)
    assert [(a.text, a.x) for a in figure.layout.annotations] == [("Step 2", 0.0), ("Step 4", 2.0)]
    assert [s.x0 for s in figure.layout.shapes] == [2.0]


def test_runs_of_a_grid_have_sentences_of_their_own() -> None:
    runs = [done(recipe(bits=4, temperature=t, alpha=a)) for t in (1.0, 2.0) for a in (0.5, 0.9)]
    assert len({run.recipe.sentence() for run in runs}) == 4
    assert runs[0].recipe.sentence().endswith("at T = 1, alpha 0.5.")


def test_runs_are_named_by_what_tells_them_apart() -> None:
    hot, cold = (done(recipe(bits=4, temperature=t)) for t in (8.0, 2.0))
    assert distinct_labels([hot, cold]) == {hot.id: "T = 8", cold.id: "T = 2"}
    other = done(recipe(bits=4, temperature=2.0, loss="dkd", optimizer="adam"))
    assert distinct_labels([cold, other])[other.id] == "Decoupled KL (DKD), Adam"
    pruned = done(recipe(sparsity=0.9, temperature=2.0))
    assert distinct_labels([cold, pruned])[pruned.id].startswith("Zero the smallest 90 %")
    long = done(recipe(sparsity=0.95, bits=3, temperature=2.0, epochs=3, images=10_000, alpha=0.5))
    label = label_beside(cold, long)
    assert label.startswith("Zero the smallest 95 %") and "T = 2, alpha 0.5 ·" in label
    assert len(label) < 90
    same = done(recipe(bits=4, temperature=2.0))
    names = [label_beside(cold, run) for run in (hot, same, other, pruned)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "path",
    sorted(p for name in ("numbers", "figures") for p in (PAGE / name).glob("*.py")),
    ids=str,
)
def test_numbers_and_figures_know_no_streamlit(path: Path) -> None:
    source = path.read_text()
    assert "streamlit" not in source
    assert path.parent.name == "figures" or "plotly" not in source


def test_of_several_trainings_the_last_one_is_described() -> None:
    curves_of = [curve((0.5, 0.9)), curve((0.6, 0.8, 0.92))]
    text = training_history.notice(
        training_history.training_history(done(DISTILLED), curves_of)
    ).replace("\N{NO-BREAK SPACE}", " ")
    assert text.startswith(
        "It was trained twice. The last time, validation accuracy rose from 60.0 %"
    )
