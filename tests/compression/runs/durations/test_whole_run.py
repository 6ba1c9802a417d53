"""Progress of a whole run: one bar that only moves forward, and the time that is left."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.runs.durations.expected import NOMINAL_SECONDS, ExpectedStage
from compression.runs.durations.stages import LATENCY, LOADING, PACKING, StageKey
from compression.runs.durations.whole_run import MOST_SHOWN, WholeRun
from compression.runs.progress import Point, Progress

TRAINING = StageKey("Training", 0)


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def of(progress: Progress, clock: Clock, at: float, whole: WholeRun) -> None:
    clock.now = 100.0 + at
    whole(progress)


def expected(**seconds: float | None) -> list[ExpectedStage]:
    return [ExpectedStage(StageKey(name.replace("_", " ")), s) for name, s in seconds.items()]


def epoch(done: float) -> Point:
    return Point(step=round(100 * done), epoch=done, learning_rate=0.1)


SECONDS = st.one_of(st.none(), st.floats(0, 100))
FRACTIONS = st.floats(0, 1)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[ExpectedStage], list[tuple[StageKey, float, Progress]]]:
    """What is expected, and what is reported at intervals: of some of it, and of other stages."""
    keys = [StageKey(name) for name in (*NOMINAL_SECONDS, "Something else")]
    keys = [StageKey(key.name, at) for at, key in enumerate(keys)]
    planned = [ExpectedStage(key, draw(SECONDS)) for key in keys if draw(st.booleans())]
    reports = []
    for key in (key for key in keys if draw(st.booleans())):
        for fraction in draw(st.lists(FRACTIONS, min_size=1, max_size=4)):
            point = epoch(fraction) if draw(st.booleans()) else None
            progress = Progress(
                stage=key.name,
                fraction=fraction,
                seconds_left=draw(SECONDS),
                at=key.at,
                point=point,
            )
            reports.append((key, draw(st.floats(0, 50)), progress))
    return planned, reports


@given(runs())
def test_the_bar_never_goes_back_and_ends_full(
    drawn: tuple[list[ExpectedStage], list[tuple[StageKey, float, Progress]]],
) -> None:
    planned, reports = drawn
    told: list[Progress] = []
    clock = Clock()
    whole = WholeRun(planned, told.append, clock)
    for _, seconds, progress in reports:
        clock.now += seconds
        whole(progress)
    shown = [p.fraction for p in told]
    assert all(0 <= fraction <= MOST_SHOWN for fraction in shown)
    assert [p.stage for p in told] == [p.stage for _, _, p in reports]
    times = whole.end()
    if reports:
        shown = [p.fraction for p in told]
        assert shown == sorted(shown) and shown[-1] == 1
        assert sum(t.seconds for t in times) == pytest.approx(clock.now - 100 - reports[0][1])
    assert all(p.seconds_left is None or p.seconds_left >= 0 for p in told)


def shown_by(
    planned: Sequence[ExpectedStage], *reports: tuple[float, Progress]
) -> list[tuple[float, float | None]]:
    told: list[Progress] = []
    clock = Clock()
    whole = WholeRun(planned, told.append, clock)
    for at, progress in reports:
        of(progress, clock, at, whole)
    return [(p.fraction, p.seconds_left) for p in told]


def test_what_went_as_expected_is_in_proportion_to_time() -> None:
    planned = expected(Loading=1, Packing=3, Measuring_latency=6)
    shown = shown_by(
        planned,
        (0, Progress(stage=LOADING, fraction=0)),
        (1, Progress(stage=PACKING, fraction=0)),
        (4, Progress(stage=LATENCY, fraction=0)),
        (7, Progress(stage=LATENCY, fraction=0.5, seconds_left=3)),
    )
    assert shown == [(0, 10), (0.1, 9), (0.4, 6), (0.7, 3)]


def test_a_stage_that_was_not_needed_is_skipped() -> None:
    planned = expected(Loading=1, Packing=3, Measuring_latency=6)
    *_, (fraction, left) = shown_by(
        planned,
        (0, Progress(stage=LOADING, fraction=0)),
        (2, Progress(stage=LATENCY, fraction=0)),
    )
    assert (fraction, left) == (0.25, 6)


def test_training_goes_by_its_own_speed() -> None:
    planned = [ExpectedStage(TRAINING, 100), *expected(Measuring_latency=10)]
    training = Progress(
        stage="Training", at=0, epochs=4, fraction=0.5, seconds_left=20, point=epoch(2)
    )
    assert shown_by(planned, (0, training.model_copy(update={"fraction": 0.0})), (20, training))[
        1
    ] == (0.4, 30)
    # from a checkpoint, it has done more than it has spent
    assert shown_by(planned, (0, training))[0] == (pytest.approx(0.4), 30)


def test_no_time_is_given_where_nothing_tells() -> None:
    planned = expected(Loading=None, Packing=None, Measuring_latency=None)
    shown = shown_by(
        planned,
        (0, Progress(stage=LOADING, fraction=0)),
        (1, Progress(stage=PACKING, fraction=0.5, seconds_left=1)),
    )
    assert [left for _, left in shown] == [None, None]
    assert 0 < shown[1][0] < 0.5  # the bar moves all the same


def test_what_is_unknown_but_short_hides_no_long_training() -> None:
    planned = [ExpectedStage(TRAINING, None), *expected(Measuring_latency=None)]
    training = Progress(stage="Training", at=0, fraction=0.1, seconds_left=900, point=epoch(0.4))
    (_, left), = shown_by(planned, (0, training))  # fmt: skip
    assert left == 900 + NOMINAL_SECONDS[LATENCY]


def test_an_overdue_stage_is_never_said_to_be_over() -> None:
    planned = expected(Packing=10)
    *_, (fraction, left) = shown_by(
        planned,
        (0, Progress(stage=PACKING, fraction=0)),
        (60, Progress(stage=PACKING, fraction=0)),
    )
    assert left == 1 and fraction < 1


def test_stages_are_timed_with_the_parts_they_have() -> None:
    clock = Clock()
    whole = WholeRun((), None, clock)
    of(Progress(stage=LOADING, fraction=0), clock, 0, whole)
    of(Progress(stage="Training", fraction=0, at=0), clock, 2, whole)
    of(Progress(stage="Computing teacher logits", fraction=0, at=0), clock, 3, whole)
    of(Progress(stage="Training", fraction=0, at=0, point=epoch(0)), clock, 4, whole)
    of(Progress(stage="Training", fraction=0.5, at=0, point=epoch(0.5)), clock, 5, whole)
    of(Progress(stage="Training", fraction=1, at=0, point=epoch(1)), clock, 6, whole)
    of(Progress(stage="Training", fraction=0.5, at=1, point=epoch(0.5)), clock, 7, whole)
    of(Progress(stage="Training", fraction=0.7, at=1, point=epoch(0.7)), clock, 8, whole)
    clock.now = 110
    times = whole.end()
    assert [(t.stage, t.at, t.seconds) for t in times] == [
        (LOADING, None, 2),
        ("Training", 0, 5),
        ("Training", 1, 3),
    ]
    assert [t.training_steps for t in times] == [None, 100, 20]  # from a checkpoint at 50


@pytest.mark.parametrize(
    ("done", "says"),
    [(0, "epoch 1 of 5"), (1.4, "epoch 2 of 5"), (5, "epoch 5 of 5")],
)
def test_training_says_its_epoch(done: float, says: str) -> None:
    progress = Progress(stage="Training", fraction=done / 5, epochs=5, point=epoch(done))
    assert progress.title == f"Training, {says}"
    assert Progress(stage=PACKING, fraction=0.5).title == PACKING
