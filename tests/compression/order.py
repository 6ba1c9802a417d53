"""The rooms of both packages, each after all that it may import. Written here once."""

from __future__ import annotations

# Each room, after all that it may import. `methods/prune/...` are files of `methods/prune`.
ORDER = (
    "compression/errors",
    "compression/paths",
    "compression/recipe",
    "compression/runs",
    "compression/catalogue",
    "compression/data",
    "compression/models",
    "compression/export/packed",
    "compression/export/onnx",
    "compression/export",
    "compression/measure",
    "compression/methods/calibration",
    "compression/methods/prune",
    "compression/methods/quantize",
    "compression/methods/distill",
    "compression/methods",
    "compression/jobs",
    "compression/cli",
    "compression",
    "dashboard/state",
    "dashboard/numbers",
    "dashboard/figures",
    "dashboard/views/recipe",
    "dashboard/views/run",
    "dashboard/views",
    "dashboard/server",
    "dashboard",
)
