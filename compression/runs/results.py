"""What was measured, where and how: the values that go between engine, store, charts and terminal.

Field names are the JSON's names. Ratios are original / compressed, so above 1 is smaller or faster.
A figure that cannot be had is None, with a sentence in `Run.notes`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, field_serializer

from compression.recipe.recipe import Recipe
from compression.runs.durations.stages import StageTime
from compression.runs.statistics import Flips, FrozenValue, Interval, Ratio


class State(StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (State.QUEUED, State.RUNNING)


class Latency(FrozenValue):
    """Time of one forward pass in milliseconds, as really run.

    `on_busy_machine` says that other programs disturbed it, however often it was tried.
    """

    backend: str
    threads: int
    batch: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    on_busy_machine: bool = False


class Measurement(FrozenValue):
    """One model's figures. Bytes are of files; `macs` are multiply-accumulates for one image.

    `onnx_bytes` and `int8_bytes` are of the float32 and the int8 ONNX graph that ship it.
    """

    top1: Interval | None
    parameters: int
    nonzero: int
    sparsity: float
    macs: int | None
    artifact_bytes: int
    dense_bytes: int
    gzip_bytes: int
    entropy_bound_bytes: int
    bits_per_weight: float
    latency: Latency | None
    onnx_bytes: int | None = None
    int8_bytes: int | None = None


class Delta(FrozenValue):
    """Compressed against original: paired on the same images, interleaved on the same machine."""

    top1: Interval | None
    flips: Flips | None
    agreement: float | None
    size_ratio: float | None
    latency_ratio: Ratio | None


class Timing(FrozenValue):
    """Original and compressed, timed with interleaved calls in one process.

    `backend` and `original_backend` are ids of backends; the int8 graph is compared with the
    original's float32 graph in the same engine. `ratio` is original / compressed, `control` the
    original against itself. `ready_seconds` is what the compressed model takes to get ready
    (exporting, compiling). Of the machine meanwhile: `busy` is the share of it that others used,
    `waiting` the share of the time for which the timing thread had no core, `switches` how often a
    second the system took one from a thread of this process.
    """

    backend: str
    original_backend: str
    baseline: Latency
    compressed: Latency
    ratio: Ratio
    control: Ratio
    ready_seconds: float | None = None
    busy: float | None = None
    waiting: float | None = None
    switches: float | None = None


class SpeedupAnalysis(FrozenValue):
    """What a backend could be expected to gain, what it gained, and why it is less, if it is.

    `expected` and `measured` are original / compressed. Every reason is a sentence.
    """

    backend: str
    expected: float
    measured: Ratio
    reasons: tuple[str, ...] = ()


class Exported(FrozenValue):
    """A file of another kind made of a run, and how it does against the measured model.

    `difference` is the largest difference of an output from PyTorch's, over the largest output;
    `agreement` the share of validation images with the same label, `top1` the file's own accuracy.
    """

    format: str
    file_bytes: int
    difference: float | None = None
    agreement: float | None = None
    top1: Interval | None = None
    notes: tuple[str, ...] = ()


class LayerTime(FrozenValue):
    """One layer in both models: median time, multiply-accumulates and bytes it must move.

    None where the model has no such layer, or the engine merged it into another.
    """

    name: str
    kind: str
    original_ms: float | None
    compressed_ms: float | None
    original_macs: int | None
    compressed_macs: int | None
    original_bytes: int | None
    compressed_bytes: int | None


class Roof(FrozenValue):
    """What this machine was seen to do at most, for one kind of number and so many threads."""

    numbers: str
    threads: int
    macs_per_second: float
    bytes_per_second: float


class LatencyReport(FrozenValue):
    """All there is to say of a run's latency: backends, batch x threads, layers, roofs."""

    timings: tuple[Timing, ...] = ()
    accounts: tuple[SpeedupAnalysis, ...] = ()
    sweep: tuple[Timing, ...] = ()
    layers: tuple[LayerTime, ...] = ()
    layers_backend: str = ""
    roofs: tuple[Roof, ...] = ()
    environment: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Evaluation(FrozenValue):
    """How a file of a model does, whoever made it.

    `change`, `flips` and `agreement` are against the original, where it is known which that is.
    """

    file: str
    format: str
    file_bytes: int
    sha256: str
    model: str | None
    dataset: str | None
    split: str | None
    top1: Interval | None
    original_top1: Interval | None
    change: Interval | None
    flips: Flips | None
    agreement: float | None
    latency: Latency | None
    environment: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Run(FrozenValue):
    """One recipe applied to one model and measured on one data set.

    `search_top1` is the accuracy on the images that a run which searches has chosen by: it is for
    choosing among such runs, while all other figures are on images that none of them has seen.
    `seconds` is what the run took, `stages` what its stages did, in their order.
    """

    id: str
    state: State
    model: str
    dataset: str | None
    recipe: Recipe
    recipe_key: str
    parent_key: str | None
    baseline: Measurement | None = None
    compressed: Measurement | None = None
    delta: Delta | None = None
    environment: dict[str, Any] = Field(default_factory=dict)
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    stopped_early: bool = False
    timings: tuple[Timing, ...] = ()
    accounts: tuple[SpeedupAnalysis, ...] = ()
    exported: tuple[Exported, ...] = ()
    search_top1: Interval | None = None
    stages: tuple[StageTime, ...] = ()

    @field_serializer("recipe")
    def _canonical(self, recipe: Recipe) -> dict[str, Any]:
        return recipe.model_dump(mode="json", exclude_none=True)

    def to_json(self, indent: int | None = None) -> str:
        """The run as one JSON document; the recipe in its canonical form."""
        return self.model_dump_json(indent=indent)
