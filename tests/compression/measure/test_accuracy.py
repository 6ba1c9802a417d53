"""Intervals cover as they should and paired counts are the counts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compression.data.datasets import FASHION_MNIST
from compression.data.splits import Split
from compression.measure.accuracy import Predictions, compare, predict
from compression.models.load import build
from compression.runs.statistics import paired_difference, proportion


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_proportion_lies_in_its_interval_inside_0_to_1(case: tuple[int, int]) -> None:
    k, n = case
    found = proportion(k, n)
    assert 0 <= found.low <= found.value <= found.high <= 1 and found.value == k / n


def test_wilson_interval_against_published_values() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3
    for k, n, low, high in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)]:
        found = proportion(k, n)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert proportion(0, 20).low == 0 and round(proportion(0, 20).high, 4) == 0.1611


def test_a_proportions_interval_covers_the_truth_about_95_times_in_100() -> None:
    truth, n = 0.93, 400
    drawn = torch.distributions.Binomial(n, torch.tensor(truth)).sample((4000,))
    covered = [(i := proportion(int(k), n)).low <= truth <= i.high for k in drawn.tolist()]
    assert 0.93 < sum(covered) / len(covered) < 0.97


@given(st.integers(0, 100), st.integers(0, 100), st.integers(200, 5000))
def test_a_paired_difference_is_antisymmetric(gained: int, lost: int, n: int) -> None:
    a, b = paired_difference(gained, lost, n), paired_difference(lost, gained, n)
    assert a.value == -b.value == (gained - lost) / n
    assert math.isclose(a.low, -b.high) and math.isclose(a.high, -b.low)
    assert -1 <= a.low <= a.value <= a.high <= 1


def test_paired_interval_covers_the_truth_about_95_times_in_100() -> None:
    torch.manual_seed(0)
    n, up, down = 1000, 0.01, 0.03
    draws = torch.rand(3000, n)
    gained = (draws < up).sum(1).tolist()
    lost = ((draws >= up) & (draws < up + down)).sum(1).tolist()
    covered = [
        (i := paired_difference(g, k, n)).low <= up - down <= i.high
        for g, k in zip(gained, lost, strict=True)
    ]
    assert 0.93 < sum(covered) / len(covered) < 0.97


def test_paired_interval_is_narrower_than_comparing_two_proportions() -> None:
    # 4 % discordant at 10,000 images: about 0.39 points either way
    found = paired_difference(200, 200, 10_000)
    assert found.high == pytest.approx(0.0039, abs=0.0001)


def predictions(classes: list[int], labels: list[int]) -> Predictions:
    return Predictions(torch.eye(3)[classes], torch.tensor(labels))


def test_a_comparison_counts_the_same_images() -> None:
    before = predictions([0, 1, 2, 0, 1], [0, 1, 2, 1, 1])
    after = predictions([0, 2, 2, 1, 0], [0, 1, 2, 1, 1])
    found = compare(before, after)
    assert (found.before, found.after) == (proportion(4, 5), proportion(3, 5))
    assert (found.flips.right_to_wrong, found.flips.wrong_to_right) == (2, 1)
    assert found.change == paired_difference(1, 2, 5)
    assert found.agreement == pytest.approx(2 / 5)


def test_predictions_do_not_depend_on_batches_and_progress_ends_at_one() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (300, 1, 28, 28), generator=generator, dtype=torch.uint8)
    split = Split("validation", pixels, torch.arange(300) % 10, FASHION_MNIST)
    model, told = build("squeezenet1_1", 10), list[float]()
    whole = predict(model, split, report=told.append)
    part = predict(model, split.head(10))
    assert whole.logits.shape == (300, 10) and told[-1] == 1.0
    assert torch.allclose(whole.logits[:10], part.logits, rtol=1e-4, atol=1e-4)
