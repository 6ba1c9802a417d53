"""What tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compression.measure import interleaved_timer


@pytest.fixture(autouse=True, scope="session")
def _briefly() -> Iterator[None]:
    """Runs are timed for a fifth of a second and 50 calls: wider intervals, but all else is so."""
    before, interleaved_timer.SECONDS = interleaved_timer.SECONDS, 0.2
    yield
    interleaved_timer.SECONDS = before
