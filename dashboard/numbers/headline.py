"""What was found about a model, in one sentence for somebody who has ten seconds."""

from __future__ import annotations

from collections.abc import Sequence

from compression.catalogue.cards import Card
from compression.runs.results import Run, State
from dashboard.numbers import format as fmt
from dashboard.numbers.trade_off import CLOSE

QUESTION = "How small and fast can this model get, and what do you lose?"


def headline(card: Card, runs: Sequence[Run]) -> tuple[str, str]:
    """How much smaller the model got within a point of its accuracy, and what that cost.

    Args:
        card: the model's.
        runs: of this model.

    Returns:
        One sentence without a full stop, and how sure it is; `QUESTION` and nothing while no run
        has an answer.
    """
    best = smallest_within_a_point(runs)
    if best is None or best.delta is None or best.delta.top1 is None:
        return QUESTION, ""
    change = best.delta.top1
    cost = f"lose {fmt.lost_points(-change.value)}" if change.value < 0 else "lose no accuracy"
    name = card.title.partition(" (")[0]
    interval = f"95 % interval {fmt.paired_interval(change)} points"
    sure = f"Accuracy change: {interval}, on {change.n:,} images."
    return f"{name} can be {fmt.number(best.delta.size_ratio or 1)} times smaller and {cost}", sure


def smallest_within_a_point(runs: Sequence[Run]) -> Run | None:
    """The finished run with the smallest file that lost at most a point; None if there is none."""
    close = [
        r
        for r in runs
        if r.state is State.DONE
        and r.delta is not None
        and r.delta.top1 is not None
        and r.delta.top1.value >= -CLOSE
        and (r.delta.size_ratio or 1.0) > 1
    ]
    return max(close, key=lambda r: (r.delta and r.delta.size_ratio) or 1.0, default=None)
