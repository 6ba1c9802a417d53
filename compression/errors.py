"""Everything that may be shown to a person when something cannot be done.

Messages are one line: the field, what was given, what is allowed or what to do next.
"""

from __future__ import annotations

_LONGEST = 80


class CompressionError(Exception):
    """Root of every error this package raises on purpose."""


class InvalidInput(CompressionError):
    """A value outside what is allowed. `str()` names the field, the value and the range."""

    def __init__(self, field: str, given: object, allowed: str) -> None:
        self.field = " ".join(field.split())
        super().__init__(f"{self.field}: got {_short(given)}, allowed: {allowed}")

    def __reduce__(self) -> tuple[object, ...]:
        # pickle would call the class with the finished message alone
        return _again, (type(self), self.field, str(self))


class DataError(CompressionError):
    """Somebody's labelled inputs cannot be used; `str()` names the first that is wrong."""


class ModelUnavailable(CompressionError):
    """A model's weights are neither on this machine nor to be downloaded."""


class StoreError(CompressionError):
    """The store of runs cannot be opened, read or written."""


class QueueFull(CompressionError):
    """Somebody has as many runs waiting as one person may have."""


class ArtifactError(CompressionError):
    """A file is not one of ours, is damaged, or was written by a newer version."""


class Cancelled(CompressionError):
    """Somebody asked for the run to stop."""


def _short(given: object) -> str:
    text = repr(given)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _again(kind: type[InvalidInput], field: str, message: str) -> InvalidInput:
    error = kind.__new__(kind, message)
    error.field = field
    return error


class NotExportable(CompressionError):
    """A model that cannot be brought into a form; `str()` is one sentence that says why."""
