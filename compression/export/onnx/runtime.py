"""How ONNX Runtime is run here, whether it answers, is timed or is profiled: one place for it."""

from __future__ import annotations

import onnxruntime as ort

_QUIET = 3


def session_options(threads: int = 1) -> ort.SessionOptions:
    """So many threads, which sleep while they wait; what goes wrong is raised, not logged."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
