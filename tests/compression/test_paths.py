"""Files are written whole or not at all, and of those in a cache the newest are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compression.errors import InvalidInput
from compression.paths import (
    TIMING_VARIABLE,
    keep_newest,
    timing_seconds,
    write_cached,
    write_whole,
)


def test_a_file_is_written_whole_or_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("n" * 250)  # as long as a name may be
    write_whole(path, b"first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"third")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "missing" / "file", b"")


def test_a_file_of_the_cache_makes_its_folder(tmp_path: Path) -> None:
    write_cached(tmp_path / "a" / "b" / "file", b"data")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"data"


@pytest.mark.parametrize(
    ("most", "by_bytes", "left"),
    [(2, False, "cd"), (0, False, "d"), (9, False, "abcd"), (7, True, "cd"), (6, True, "d")],
)
def test_the_newest_files_are_kept(tmp_path: Path, most: int, by_bytes: bool, left: str) -> None:
    for age, name in enumerate("dcba"):
        path = tmp_path / f"{name}.part"
        path.write_bytes(b"x" * (age + 3))
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "other").touch()
    if by_bytes:
        keep_newest(tmp_path, "*.part", most, lambda p: p.stat().st_size)
    else:
        keep_newest(tmp_path, "*.part", most)
    assert sorted(p.stem for p in tmp_path.iterdir()) == [*left, "other"]


@pytest.mark.parametrize(("given", "seconds"), [(None, 1.0), ("", 1.0), ("0.25", 0.25)])
def test_models_are_timed_for_as_long_as_the_environment_says(
    given: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TIMING_VARIABLE)
    if given is not None:
        monkeypatch.setenv(TIMING_VARIABLE, given)
    assert timing_seconds() == seconds


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_refused_by_name(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIMING_VARIABLE, given)
    with pytest.raises(InvalidInput, match=f"COMPRESSION_TIMING_SECONDS: got '{given}'"):
        timing_seconds()
