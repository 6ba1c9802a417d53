"""The benchmark at 224 px measures what its table says."""

from __future__ import annotations

from typing import Any

import torch

from compression.recipe.presets import apply_preset
from compression.recipe.recipe import Recipe, parse
from tests.benchmarks.real_size import CELLS, NNCF, data, table


def result(method: str, mib: int, **more: Any) -> dict[str, Any]:
    return {"model": "resnet50", "method": method, "mib": mib, "seconds": 12.4, **more}


def test_every_cell_is_a_recipe() -> None:
    for preset, steps in CELLS.values():
        made = parse(Recipe, {"steps": [apply_preset(preset, dict(step)) for step in steps]})
        assert len(made.steps) == len(steps)


def test_images_are_of_the_models_size_and_are_not_all_alike() -> None:
    split = data(12).calibration
    x = split.prepared()
    assert x.shape == (12, 3, 224, 224) and len(torch.unique(split.images)) > 200
    assert all(not torch.equal(x[0], other) for other in x[1:])


def test_memory_is_set_against_the_peers_where_there_is_one() -> None:
    ours, *_ = CELLS
    text = table([result(NNCF, 2048), result(ours, 3072)])
    assert "2.00 GiB, 12 s |" in text and "3.00 GiB, 12 s (1.50×)" in text
    assert "×" not in table([result(ours, 3072)])
    assert "no nncf" in table([{"model": "resnet50", "method": NNCF, "reason": "no nncf"}])
