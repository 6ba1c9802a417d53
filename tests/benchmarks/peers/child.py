"""A process per method that forks one per task, so that each is timed and measured alone.

Tasks come as lines of JSON on standard input; results leave the same way. The method's library is
imported once, before the clock starts. Linux and macOS only, for it forks.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from compression.catalogue.cards import card
from compression.data.datasets import FASHION_MNIST, load_dataset
from compression.data.splits import BATCH
from compression.models.load import load_model, original_of
from tests.benchmarks.peers.cells import CELLS, Cell, Job, Made
from tests.benchmarks.peers.environments import ENVIRONMENTS
from tests.benchmarks.peers.methods import METHODS, ORIGINAL, Module, load
from tests.benchmarks.peers.results import Bits, pack_bits

LIMIT_SECONDS = 3600
CALIBRATION_BATCH = 50
_SHOWN = 200


def serve(method: str, threads: int) -> None:
    """Answer every task on standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    torch.set_num_threads(threads)
    module = load(method)
    for line in sys.stdin:
        task = json.loads(line)
        # Read once, before the fork: loading is not timed for anybody.
        original_of(task["model"])
        load_dataset(str(card(task["model"]).dataset))
        print(_forked(module, task, threads, method), file=answers, flush=True)


def _forked(module: Module, task: dict[str, str], threads: int, method: str) -> str:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        signal.alarm(LIMIT_SECONDS)
        with os.fdopen(writer, "w") as out:
            out.write(json.dumps(_answer(module, task, threads, method)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    timeout = status == -signal.SIGALRM
    why = f"not done in {LIMIT_SECONDS} s" if timeout else f"the process died with status {status}"
    return text or json.dumps({"reason": why})


def _answer(module: Module, task: dict[str, str], threads: int, method: str) -> dict[str, Any]:
    # A cached result would be no measurement of what it takes.
    folder = os.environ["COMPRESSION_CACHE"] = tempfile.mkdtemp()
    try:
        job = _job(task, threads)
        before = _reset_peak_mib()
        started, cpu_started = time.perf_counter(), time.process_time()
        made = module.run(job)
        spent, cpu_spent = time.perf_counter() - started, time.process_time() - cpu_started
        peak = _peak_mib() - before
        right = evaluate(made, job.model_id, task["split"])
    except Exception as error:  # a peer may fail in any way; the table says how
        message = " ".join(str(error).split()).replace(str(Path.cwd()) + "/", "")
        return {"reason": f"{type(error).__name__}: {message}"[:_SHOWN]}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "n": len(right),
        "right": pack_bits(right),
        "seconds": round(spent, 3),
        "cpu_seconds": round(cpu_spent, 3),
        "peak_mib": round(max(peak, 0.0), 1),
        "threads": threads,
        "facts": {k: round(v, 5) for k, v in made.facts.items()},
        "versions": _versions(method),
    }


def _versions(method: str) -> dict[str, str]:
    about = METHODS[method]
    versions = {p: version(p.replace("_", "-")) for p in ("torch", *about.needs)}
    if about.environment:
        versions[about.environment] = ENVIRONMENTS[about.environment].version
    return versions


def _job(task: dict[str, str], threads: int) -> Job:
    split = load_dataset(str(card(task["model"]).dataset)).calibration
    x = FASHION_MNIST(split.images).contiguous(memory_format=torch.contiguous_format)
    return Job(
        model_id=task["model"],
        model=load_model(task["model"]).to(memory_format=torch.contiguous_format),
        batches=list(x.split(CALIBRATION_BATCH)),
        labels=list(split.labels.split(CALIBRATION_BATCH)),
        cell=Cell(ORIGINAL) if task["cell"] == ORIGINAL else CELLS[task["cell"]],
        variant=task["variant"],
        threads=threads,
    )


@torch.inference_mode()
def evaluate(made: Made, model_id: str, name: str) -> Bits:
    """Whether each image of a split is classified rightly, bool [n]."""
    split = load_dataset(str(card(model_id).dataset)).split(name)
    right = [
        made.predict(FASHION_MNIST(images)).argmax(1) == labels
        for images, labels in zip(split.images.split(BATCH), split.labels.split(BATCH), strict=True)
    ]
    return torch.cat(right).numpy()


def _reset_peak_mib() -> float:
    """Memory in use now; from here on the peak counts anew where the system can do that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak_mib()
    return _status_mib("VmRSS") or _peak_mib()


def _peak_mib() -> float:
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return _status_mib("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _status_mib(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith(name + ":")), 0.0)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
