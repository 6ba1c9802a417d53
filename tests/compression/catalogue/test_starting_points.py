"""Measured recipes to start with: every bundled model has them, and a damaged file is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from compression.catalogue import starting_points as module
from compression.catalogue.cards import cards
from compression.catalogue.starting_points import starting_points
from compression.errors import CompressionError

BUNDLED = [c.id for c in cards().values() if c.bundled]


@pytest.mark.parametrize("model", BUNDLED)
def test_a_bolder_point_is_smaller(model: str) -> None:
    sizes = [point.size_ratio for point in starting_points(model)]
    assert len(sizes) == 3 and sizes == sorted(sizes)


def test_a_model_without_measured_points_has_none() -> None:
    assert starting_points("imagenet/resnet18") == ()


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "starting_points.json"
    path.write_text('{"models": 3}')
    monkeypatch.setattr(module, "starting_points_path", lambda: path)
    module._all.cache_clear()
    with pytest.raises(CompressionError, match=r"starting points: .* cannot be read"):
        starting_points(BUNDLED[0])
    path.unlink()
    module._all.cache_clear()
    assert starting_points(BUNDLED[0]) == ()
    module._all.cache_clear()
