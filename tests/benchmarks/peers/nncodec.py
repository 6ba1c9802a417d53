"""NNCodec: Fraunhofer's coder of the ISO standard 15938-17, with trellis-coded quantization.

Its environment is its own (`environments.py`); the process there starts before the clock does.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.peers.cells import Job, Made
from tests.benchmarks.peers.environments import python_of

# Isolated: this file's folder would be searched first, and this file is named like the package.
_worker = subprocess.Popen(
    [str(python_of("nncodec")), "-I", str(Path(__file__).with_name("nncodec_worker.py"))],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)


def run(job: Job) -> Made:
    """Code all float tensors at the variant's quantization parameters; predict with the decoded."""
    qp, others = (int(part.split(" ")[1]) for part in job.variant.split(", "))
    state = job.model.state_dict()
    arrays = {name: t.numpy() for name, t in state.items() if t.is_floating_point()}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **arrays)  # type: ignore[arg-type]
        settings = {"qp": qp, "nonweight_qp": others, "use_dq": True}
        size = _coded({"source": str(source), "target": str(target), "settings": settings})
        with np.load(target) as file:
            decoded = {name: torch.from_numpy(file[name]) for name in file.files}
    job.model.load_state_dict({**state, **decoded})
    return Made(job.model, {"bytes": size})


def _coded(task: dict[str, Any]) -> float:
    assert _worker.stdin and _worker.stdout
    _worker.stdin.write(json.dumps(task) + "\n")
    _worker.stdin.flush()
    line = _worker.stdout.readline()
    if not line:
        raise RuntimeError("NNCodec's process ended")
    return float(json.loads(line)["bytes"])
