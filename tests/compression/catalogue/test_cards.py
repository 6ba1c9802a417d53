"""The catalogue: every card whole, names near a mistyped one, thresholds against sparsity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compression.catalogue import cards as cards_module
from compression.catalogue.cards import (
    Card,
    Weights,
    card,
    cards,
)
from compression.errors import CompressionError, InvalidInput
from compression.paths import assets_dir

BUNDLED = [c for c in cards().values() if c.bundled]

magnitudes = st.lists(st.floats(0, 10, width=32), min_size=2, max_size=400)


def described(values: list[float], points: int) -> Weights:
    ranked = sorted(values)
    last = len(ranked) - 1
    at = [ranked[round(i * last / (points - 1))] for i in range(points)]
    return Weights(quantiles=tuple(at), largest={"a": ranked[-1]}, counts={"a": len(ranked)})


@given(magnitudes, st.floats(0, 11))
def test_sparsity_of_a_threshold_is_near_the_true_count(
    values: list[float], threshold: float
) -> None:
    points = 101
    true = sum(v < threshold for v in values) / len(values)
    # between two stored quantiles, plus one weight at either end
    tolerance = 1 / (points - 1) + 2 / len(values)
    guess = described(values, points).sparsity(threshold)
    assert 0 <= guess <= 1
    low = sum(v < threshold for v in values) / len(values) - tolerance
    high = sum(v <= threshold for v in values) / len(values) + tolerance
    assert low <= guess <= high or abs(guess - true) <= tolerance


@given(magnitudes, st.floats(0, 11), st.floats(0, 11))
def test_sparsity_never_falls_as_the_threshold_rises(
    values: list[float], a: float, b: float
) -> None:
    weights = described(values, 51)
    assert weights.sparsity(min(a, b)) <= weights.sparsity(max(a, b))


@pytest.mark.slow
@given(st.lists(st.integers(0, 1_000_000), min_size=30, max_size=200, unique=True), st.floats(0, 1))
def test_threshold_and_sparsity_are_inverse(
    hundred_thousandths: list[int], sparsity: float
) -> None:
    weights = described([n / 1e5 for n in hundred_thousandths], 21)
    assert weights.sparsity(weights.threshold(sparsity)) == pytest.approx(sparsity, abs=1e-3)


def test_threshold_zero_prunes_nothing_and_beyond_the_largest_everything() -> None:
    weights = Weights(quantiles=(0.0, 0.0, 0.5, 1.0), largest={"a": 1.0, "b": 0.5}, counts={})
    assert weights.sparsity(0) == 0
    assert weights.sparsity(1.01) == 1
    assert weights.emptied(0.5) == ()
    assert weights.emptied(0.7) == ("b",)
    assert weights.emptied(1.5) == ("a", "b")


def test_there_are_bundled_models_and_they_come_first() -> None:
    assert len(BUNDLED) >= 3
    assert [c.bundled for c in cards().values()] == sorted(
        (c.bundled for c in cards().values()), reverse=True
    )


@pytest.mark.parametrize("found", BUNDLED, ids=lambda c: c.id)
def test_a_bundled_card_is_whole(found: Card) -> None:
    assert (assets_dir() / "models" / found.file).is_file()
    assert found.test_top1 is not None
    assert found.test_top1.low < found.test_top1.value < found.test_top1.high
    assert found.test_top1.n == 10_000
    assert found.macs
    assert found.training
    assert found.licence
    assert found.date
    assert found.weights is not None
    assert list(found.weights.quantiles) == sorted(found.weights.quantiles)
    assert sum(found.weights.counts.values()) <= found.parameters
    assert found.dense_bytes >= 4 * found.parameters


def test_every_id_says_where_it_belongs() -> None:
    for name, found in cards().items():
        assert name == found.id
        assert name.startswith("fashion-mnist/" if found.bundled else "imagenet/")
    assert len(cards()) > 80


def test_a_mistyped_model_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="imagenet/resnet50"):
        card("imagenet/resnet5")
    with pytest.raises(InvalidInput, match=BUNDLED[0].id):
        card("zzz")


def test_a_damaged_card_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "models"
    models.mkdir()
    monkeypatch.setattr(cards_module, "assets_dir", lambda: tmp_path)
    read = cards.__wrapped__
    with pytest.raises(CompressionError, match=r"imagenet\.json cannot be read"):
        read()
    (models / "imagenet.json").write_text("[]")
    (models / "a.json").write_text(json.dumps({"id": "a"}))
    with pytest.raises(CompressionError, match=r"a\.json cannot be read"):
        read()
