"""The latency of a finished run, measured again."""

from __future__ import annotations

import datetime
from functools import partial
from typing import Any

from compression.jobs.packed_source import source_of
from compression.measure.backend_timing import Pair
from compression.measure.comparison import latency_environment
from compression.measure.deployed_models import DeployedLatency, pair_of, time_deployed
from compression.measure.notes import latency_notes, without_latency
from compression.runs.durations.expected import measuring_again
from compression.runs.durations.stages import LATENCY, LOADING
from compression.runs.durations.whole_run import WholeRun
from compression.runs.progress import Report, stage
from compression.runs.results import Latency, Measurement, Run
from compression.runs.store import Store


def remeasure(
    store: Store, run: Run, *, device: str = "auto", report: Report | None = None
) -> tuple[Run, Run | None]:
    """Measure the latency of a finished run's own file again.

    Where its file was not kept, its recipe is applied again, and a note says so.

    Args:
        store: where the run, its file and its certificate are.
        run: a run that is done.
        device: `auto`, `cpu` or `cuda`, where it is measured.
        report: called often with how far it is; what it raises ends the work.

    Returns:
        The run and its certificate, if it has one, with the new latency and the notes on it in
        place of the old; all else is as it was. Nothing is stored.

    Raises:
        InvalidInput: the run is not done, or was stopped early and its file was not kept.
        CompressionError: it cannot be measured; the message says why.
    """
    whole = WholeRun(measuring_again(run, (LATENCY,)), report)
    stage(whole, LOADING)
    source = source_of(store, run, device, whole)
    target = source.target
    macs = Pair(*(m.macs if m else None for m in (run.baseline, run.compressed)))
    timed = time_deployed(
        pair_of(target, source.model(), macs, run.recipe),
        target.images(1),
        device=target.device,
        stage=partial(stage, whole),
    )
    whole.end()
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    where = {**latency_environment(target, timed), "latency_created": now}
    about = (*latency_notes(run.recipe, timed.main, timed.timings, timed.missing), *source.notes)
    certificate = store.certificates.get(run.id)
    return (
        _with_latency(run, timed, where, about),
        _with_latency(certificate, timed, where, about) if certificate else None,
    )


def _with_latency(
    run: Run, timed: DeployedLatency, where: dict[str, Any], about: tuple[str, ...]
) -> Run:
    main, delta = timed.main, run.delta
    return run.model_copy(
        update={
            "baseline": _measured(run.baseline, main.baseline),
            "compressed": _measured(run.compressed, main.compressed),
            "delta": delta and delta.model_copy(update={"latency_ratio": main.ratio}),
            "environment": run.environment | where,
            "notes": tuple(dict.fromkeys((*about, *without_latency(run.notes)))),
            "timings": timed.timings,
            "accounts": timed.speedups,
        }
    )


def _measured(measurement: Measurement | None, latency: Latency) -> Measurement | None:
    return measurement and measurement.model_copy(update={"latency": latency})
