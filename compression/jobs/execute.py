"""Do a run: compress, measure, give back what is stored; certify one that is done."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import nn

from compression.catalogue.preset_timings import preset_seconds
from compression.data.splits import REPORT
from compression.errors import InvalidInput
from compression.jobs.packed_source import is_measured, source_of
from compression.measure.accuracy import predict
from compression.measure.comparison import Figures, measure, measure_file
from compression.methods.pipeline import compress
from compression.models.parametrize import materialize
from compression.models.target import Target, target_of
from compression.paths import timing_seconds
from compression.runs.durations.expected import ExpectedStage, expected_stages, measuring_again
from compression.runs.durations.stages import LOADING
from compression.runs.durations.whole_run import WholeRun
from compression.runs.format import unsearched_images
from compression.runs.progress import Report, stage
from compression.runs.results import Run, State
from compression.runs.statistics import Interval, proportion
from compression.runs.store import Store


def execute(
    run: Run,
    *,
    device: str = "auto",
    split: str = "validation",
    report: Report | None = None,
    keep: Callable[[bytes], object] | None = None,
    store: Store | None = None,
) -> Run:
    """Apply the run's recipe, measure on a split, and give the run back as done.

    A recipe that searches has looked at half of the validation images: it is measured on the other.

    Args:
        run: what to do: the model's id, its data set and the recipe.
        device: `auto`, `cpu` or `cuda`.
        split: the name of the split that is measured on.
        report: called often with how far the whole run is; may raise `Cancelled`.
        keep: gets the packed file.
        store: where to look for earlier runs of the model, which tell how long this one takes, and
            of the same recipe, whose bytes are compared.

    Returns:
        The run with state `done`, its figures, notes and environment.

    Raises:
        CompressionError: it cannot be done; the message says why.

    Example:
        >>> from compression import Quantize, Recipe, execute, new_run
        >>> recipe = Recipe(steps=(Quantize(bits=8),))
        >>> run = execute(new_run("fashion-mnist/shufflenet_v2_x0_5", "fashion-mnist", recipe))
        >>> run.state.value, run.delta.size_ratio > 3
        ('done', True)
    """
    started = time.perf_counter()
    timing_seconds()  # a wrong setting is refused before the work, not after it
    whole = WholeRun(_expected(run, store), report)
    stage(whole, LOADING)
    searches = run.recipe.searches and run.dataset is not None
    if searches and split == "validation":
        split = REPORT
    target = target_of(run.model, run.recipe, device=device, split=split)
    dataset = target.data.id if target.data else None
    if run.dataset != dataset:
        raise InvalidInput("dataset", run.dataset, str(dataset))
    made = compress(target, run.recipe, report=whole)
    figures = measure(target, made.model, run.recipe, report=whole)
    search_top1 = _search_top1(target, made.model) if searches else None
    stages = whole.end()
    if keep is not None:
        keep(figures.packed)
    done = _with_figures(run, figures, made.notes).model_copy(
        update={
            "search_top1": search_top1,
            "seconds": time.perf_counter() - started,
            "stages": stages,
            "stopped_early": made.stopped,
        }
    )
    return done if store is None else _compared(store, done)


def certify(store: Store, run: Run, *, device: str = "auto", report: Report | None = None) -> Run:
    """Measure a finished run's own file on the test images.

    Where its file was not kept, its recipe is applied again, and a note says whether that gave the
    same bytes.

    Args:
        store: where the run and its file are.
        run: a run that is done.
        device: `auto`, `cpu` or `cuda`, where it is measured.
        report: called often with how far it is; what it raises ends the work.

    Returns:
        The run with its figures on the test images; nothing is stored.

    Raises:
        InvalidInput: the run is not done, or was stopped early and its file was not kept.
        CompressionError: it cannot be measured; the message says why.
    """
    started = time.perf_counter()
    whole = WholeRun(measuring_again(run), report)
    stage(whole, LOADING)
    source = source_of(store, run, device, whole, split="test")
    known = run.compressed if is_measured(run, source.packed) else None
    figures = measure_file(
        source.target,
        source.packed,
        run.recipe,
        entropy_bound_bytes=known.entropy_bound_bytes if known else None,
        report=whole,
    )
    update = {"stages": whole.end(), "seconds": time.perf_counter() - started}
    return _with_figures(run, figures, source.notes).model_copy(update=update)


def _expected(run: Run, store: Store | None) -> tuple[ExpectedStage, ...]:
    """The stages of the run, by what earlier runs of its model took."""
    earlier = store.runs.find(run.model, (State.DONE,)) if store is not None else []
    known = preset_seconds(run.model, run.recipe)
    return expected_stages(run.recipe, [entry.run for entry in earlier], known)


def _with_figures(run: Run, figures: Figures, notes: tuple[str, ...]) -> Run:
    return run.model_copy(
        update={
            "state": State.DONE,
            "baseline": figures.baseline,
            "compressed": figures.compressed,
            "delta": figures.delta,
            "environment": figures.environment,
            "notes": (*notes, *figures.notes, *_accuracy_note(figures)),
            "timings": figures.timings,
            "accounts": figures.speedups,
            "exported": figures.exported,
        }
    )


def _accuracy_note(figures: Figures) -> tuple[str, ...]:
    top1 = figures.compressed.top1
    if figures.environment["split"] != REPORT or top1 is None:
        return ()
    return (unsearched_images(top1.n),)


def _search_top1(target: Target, model: nn.Module) -> Interval | None:
    """Accuracy on the images that the recipe has chosen by."""
    if target.data is None:
        return None
    split = target.data.search
    predictions = predict(materialize(model), split, target.device)
    return proportion(int(predictions.right.sum()), len(split))


def _compared(store: Store, run: Run) -> Run:
    """The run with a note on whether the newest stored run of its recipe gave the same bytes."""
    digest = run.environment["artifact_sha256"]
    earlier = next(
        (
            entry.run
            for entry in reversed(store.runs.find(run.model, (State.DONE,)))
            if entry.run.recipe_key == run.recipe_key
            and entry.run.id != run.id
            and not entry.run.stopped_early
            and "artifact_sha256" in entry.run.environment
        ),
        None,
    )
    if earlier is None or run.stopped_early:
        return run
    note = f"Run {earlier.id} of the same recipe gave the same file to the last bit."
    if earlier.environment["artifact_sha256"] != digest:
        note = (
            f"Run {earlier.id} of the same recipe gave a different file"
            f"{_differences(earlier, run)}: floating-point sums in a different order "
            "round differently."
        )
    return run.model_copy(update={"notes": (*run.notes, note)})


def _differences(earlier: Run, run: Run) -> str:
    """What was different where a run was done, in brackets."""
    names = {"threads": "threads", "device": "device", "torch": "PyTorch"}
    parts = [
        f"{title} {earlier.environment[key]} there, {run.environment[key]} here"
        for key, title in names.items()
        if key in earlier.environment and earlier.environment[key] != run.environment[key]
    ]
    return f" ({'; '.join(parts)})" if parts else ""
