"""What a program needs of its surroundings: where files are, and how its threads behave."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from math import isfinite
from pathlib import Path

import platformdirs

from compression.errors import InvalidInput

_PACKAGE = Path(__file__).resolve().parent
_NAME = "compression-dashboard"

STORE_VARIABLE = "COMPRESSION_STORE"
TIMING_VARIABLE = "COMPRESSION_TIMING_SECONDS"


def assets_dir() -> Path:
    """Bundled data and weights: inside the package when installed, beside it in a checkout."""
    installed = _PACKAGE / "assets"
    return installed if installed.is_dir() else _PACKAGE.parent / "assets"


def cache_dir() -> Path:
    """What can be computed again: exported graphs, prefixes of recipes.

    `COMPRESSION_CACHE` overrides the platform's default.
    """
    given = os.environ.get("COMPRESSION_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir(_NAME))


def data_dir() -> Path:
    """What must be kept: the default store of runs. `COMPRESSION_DATA` overrides the default."""
    given = os.environ.get("COMPRESSION_DATA")
    return Path(given) if given else Path(platformdirs.user_data_dir(_NAME))


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that nobody ever reads half of it: it is all there, or as it was before.

    Args:
        path: the file; its folder is there.
        data: what the file is to hold.
        durable: whether it also has to outlive a power cut right after; that takes longer.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}")
    try:
        with part.open("xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


def write_cached(path: Path, data: bytes) -> None:
    """Write a file of the cache whole, making its folder first.

    Raises:
        OSError: it cannot be written; a cache can do without.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data, durable=False)


def keep_newest(
    folder: Path, pattern: str, most: int, size: Callable[[Path], int] = lambda _: 1
) -> None:
    """Remove the files that were changed longest ago, until the sizes of the rest are at most
    `most`; the newest one always stays.

    Args:
        folder: where the files are.
        pattern: which files, such as `*.onnx`.
        most: the largest sum of sizes; as `size` is, the largest number of files.
        size: what a file counts.

    Raises:
        OSError: a file cannot be looked at or removed.
    """
    total = 0
    newest_first = sorted(folder.glob(pattern), key=lambda p: p.stat().st_mtime, reverse=True)
    for place, path in enumerate(newest_first):
        total += size(path)
        if place > 0 and total > most:
            path.unlink(missing_ok=True)


def timing_seconds() -> float:
    """Seconds that each model is timed for: 1 unless `COMPRESSION_TIMING_SECONDS` says otherwise.
    More narrows the intervals of latency, less is done sooner.

    Raises:
        InvalidInput: it is no number above 0.
    """
    given = os.environ.get(TIMING_VARIABLE) or "1"
    with suppress(ValueError):
        if (seconds := float(given)) > 0 and isfinite(seconds):
            return seconds
    raise InvalidInput(TIMING_VARIABLE, given, "a number of seconds above 0")


# What PyTorch's libraries read from the environment, once, when they are loaded.
_PROCESS = {
    # Threads spin while they wait for each other. With anything else running on the machine that
    # made evaluation on two cores five times slower than on one; after a short spin they sleep.
    "GOMP_SPINCOUNT": "1000",
    # On a busy machine the matrix library would use fewer threads, and sum in another order: the
    # same recipe and seed could then give other bytes.
    "MKL_DYNAMIC": "FALSE",
}


def configure_process() -> None:
    """Set up this process and those it starts; what the environment says already, stays.

    For programs of ours, at their very start: it has no effect once torch is imported.
    """
    for name, value in _PROCESS.items():
        os.environ.setdefault(name, value)
