"""The stages of a run, in their order, and the seconds that one took."""

from __future__ import annotations

from typing import NamedTuple

from compression.runs.statistics import FrozenValue

LOADING = "Loading"
# What applying a step is called, by the kind of step.
STEP_STAGES = {"prune": "Pruning", "quantize": "Quantizing", "distill": "Training"}
PACKING = "Packing"
ORIGINAL = "Measuring the original"
ACCURACY = "Measuring accuracy"
LATENCY = "Measuring latency"
INT8_GRAPH = "Checking the int8 graph"


class StageKey(NamedTuple):
    """Which stage of a run: its name, and for a step of the recipe its place there, from 0."""

    name: str
    at: int | None = None


class StageTime(FrozenValue):
    """The seconds that one stage of a run took; `at` is the place of its step in the recipe.

    `training_steps` are the optimizer steps taken meanwhile, where it trained. A step whose result
    was at hand already has no such time.
    """

    stage: str
    at: int | None = None
    seconds: float
    training_steps: int | None = None

    @property
    def key(self) -> StageKey:
        """Which stage it was."""
        return StageKey(self.stage, self.at)
