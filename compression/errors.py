"""Everything that may be shown to a person when something cannot be done.

Messages are one line: the field, what was given, what is allowed or what to do next.
"""

from __future__ import annotations


class CompressionError(Exception):
    """Root of every error this package raises on purpose."""


class InvalidInput(CompressionError):
    """A value outside what is allowed. `str()` names the field, the value and the range."""

    def __init__(self, field: str, given: object, allowed: str) -> None:
        super().__init__(f"{field}: got {given!r}, allowed: {allowed}")
        self.field = field


class ModelUnavailable(CompressionError):
    """A model's weights are neither on this machine nor to be downloaded."""


class StoreError(CompressionError):
    """The store of runs cannot be opened, read or written."""


class ArtifactError(CompressionError):
    """A file is not one of ours, is damaged, or was written by a newer version."""


class Cancelled(CompressionError):
    """Somebody asked for the run to stop."""
