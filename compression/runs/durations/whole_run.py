"""Progress of a whole run, from what is reported of one stage after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from compression.runs.durations.expected import NOMINAL_SECONDS, ExpectedStage
from compression.runs.durations.stages import StageKey, StageTime
from compression.runs.progress import Progress, Report

# Until its end a run is never shown as done.
MOST_SHOWN = 0.99
# Of what is left, stages that nothing tells the seconds of may be so much for a time to be given.
_MOST_UNKNOWN = 0.2
# A stage that takes longer than expected still has this share of it to go.
_OVERDUE = 0.1
# Seconds that a stage of another name commonly takes.
_OTHER = 1.0


class WholeRun:
    """Makes reports of single stages those of the whole run, and times the stages.

    Args:
        expected: the stages of the run, in their order.
        report: gets the progress of the whole run, whose fraction never falls.
        clock: seconds, from any start.
    """

    def __init__(
        self,
        expected: Sequence[ExpectedStage],
        report: Report | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._to_come, self._report, self._clock = list(expected), report, clock
        self._began = self._stage_began = clock()
        self._stage: ExpectedStage | None = None
        self._first_step: int | None = None
        self._last_step = 0
        self._times: list[StageTime] = []
        self._fraction = 0.0

    def __call__(self, progress: Progress) -> None:
        """Report the progress of a stage as that of the whole run. Raises what `report` does."""
        now = self._clock()
        if self._stage is None or not _is_of(progress, self._stage.key):
            self._begin(StageKey(progress.stage, progress.at), now)
        assert self._stage is not None
        if progress.point is not None:
            if self._first_step is None:
                self._first_step = progress.point.step
            self._last_step = progress.point.step
        spent = now - self._stage_began
        in_stage = stage_seconds_left(progress, spent, self._stage.seconds)
        fraction, left = whole_run(
            progress, now - self._began, spent, in_stage, self._stage, self._to_come
        )
        self._fraction = max(self._fraction, min(fraction, MOST_SHOWN))
        self._tell(progress.model_copy(update={"fraction": self._fraction, "seconds_left": left}))

    def end(self) -> tuple[StageTime, ...]:
        """Report that the run is done; the times of its stages, in their order."""
        self._close(self._clock())
        self._fraction = 1.0
        if self._times:
            last = self._times[-1]
            self._tell(Progress(stage=last.stage, fraction=1.0, seconds_left=0.0, at=last.at))
        return tuple(self._times)

    def _tell(self, progress: Progress) -> None:
        if self._report:
            self._report(progress)

    def _begin(self, key: StageKey, now: float) -> None:
        self._close(now)
        keys = [stage.key for stage in self._to_come]
        self._stage, self._stage_began = ExpectedStage(key, None), now
        if key in keys:
            # those before it had nothing to do
            self._stage = self._to_come[keys.index(key)]
            self._to_come = self._to_come[keys.index(key) + 1 :]

    def _close(self, now: float) -> None:
        if self._stage is not None:
            steps = self._last_step - (self._first_step or 0)
            time_taken = StageTime(
                stage=self._stage.key.name,
                at=self._stage.key.at,
                seconds=now - self._stage_began,
                training_steps=steps or None,
            )
            self._times.append(time_taken)
        self._stage, self._first_step, self._last_step = None, None, 0


def _is_of(progress: Progress, key: StageKey) -> bool:
    """Whether a report is of a stage. A step's stage has parts with titles of their own."""
    return progress.at == key.at and (progress.at is not None or progress.stage == key.name)


def stage_seconds_left(progress: Progress, spent: float, expected: float | None) -> float | None:
    """Seconds that the stage under way has left; None where nothing tells.

    Training measures its own speed, which is what counts. Other stages do not take time in
    proportion to the fraction that they report: the further they are, the more that counts.

    Args:
        progress: the latest report of the stage.
        spent: seconds since it began.
        expected: seconds that it was expected to take, if anything told.
    """
    own = progress.seconds_left
    if own is not None and (expected is None or progress.point is not None):
        return own
    if expected is None:
        return None
    due = max(expected - spent, _OVERDUE * expected)
    return due if own is None else (1 - progress.fraction) * due + progress.fraction * own


def whole_run(
    progress: Progress,
    elapsed: float,
    spent: float,
    in_stage: float | None,
    stage: ExpectedStage,
    to_come: Sequence[ExpectedStage],
) -> tuple[float, float | None]:
    """The fraction of a whole run that is done, and the seconds it has left, if they are known.

    Where nothing tells what a stage takes, the fraction goes by what stages commonly take; no time
    is given unless such stages are a small part of what is left.

    Args:
        progress: the latest report of the stage under way.
        elapsed: seconds since the run began.
        spent: seconds since its stage began.
        in_stage: seconds that this stage has left, if they are known.
        stage: the stage under way.
        to_come: the stages after it.
    """
    lefts = [(stage.key, in_stage), *((s.key, s.seconds) for s in to_come)]
    known = sum(seconds for _, seconds in lefts if seconds is not None)
    nominal = [NOMINAL_SECONDS.get(key.name, _OTHER) for key, seconds in lefts if seconds is None]
    if in_stage is None:
        nominal[0] = max(nominal[0] - spent, _OVERDUE * nominal[0])
    unknown = sum(nominal)
    done = elapsed
    if progress.point is not None and in_stage is not None and progress.fraction < 1:
        # a training that goes on from a checkpoint has done more than it has spent
        trained = in_stage * progress.fraction / (1 - progress.fraction)
        done += max(0.0, trained - spent)
    total = done + known + unknown
    fraction = done / total if total > 0 else 0.0
    return fraction, known + unknown if unknown <= _MOST_UNKNOWN * known else None
