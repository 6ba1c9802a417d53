"""Files that other programs run: ONNX graphs in float32 and in int8, and sessions that run them."""

from __future__ import annotations

from compression.errors import CompressionError


class NotExportable(CompressionError):
    """A model that cannot be brought into a form; `str()` is one sentence that says why."""
