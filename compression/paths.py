"""Where files are: the bundled assets (read only) and this person's cache and data folders."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parent
_NAME = "compression-dashboard"


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


def write_cached(path: Path, data: bytes) -> None:
    """Write a file of the cache so that nobody ever reads half of it.

    Raises:
        OSError: it cannot be written; a cache can do without.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


STORE_VARIABLE = "COMPRESSION_STORE"
