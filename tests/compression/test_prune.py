"""Pruning removes exactly what it says it removes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression.errors import InvalidInput
from compression.prune.patterns import below, refuse_empty, smallest_global, smallest_per_layer
from compression.prune.scores import SCORES, magnitude

sizes = st.lists(st.integers(1, 60), min_size=1, max_size=4)
sparsities = st.floats(0, 1)


def scores_of(counts: list[int], seed: int, levels: int = 1000) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        str(i): torch.randint(0, levels, (n, 1), generator=generator).float()
        for i, n in enumerate(counts)
    }


@given(sizes, sparsities, st.integers(0, 9), st.sampled_from([2, 1000]))
def test_global_sparsity_is_exact_even_among_equal_scores(
    counts: list[int], sparsity: float, seed: int, levels: int
) -> None:
    masks = smallest_global(scores_of(counts, seed, levels), sparsity)
    dropped = sum(int((~m).sum()) for m in masks.values())
    assert dropped == round(sparsity * sum(counts))


@given(sizes, sparsities, st.integers(0, 9), st.sampled_from([2, 1000]))
def test_layer_sparsity_is_exact_in_every_layer(
    counts: list[int], sparsity: float, seed: int, levels: int
) -> None:
    scores = scores_of(counts, seed, levels)
    for name, mask in smallest_per_layer(scores, sparsity).items():
        assert int((~mask).sum()) == round(sparsity * scores[name].numel())


@given(sizes, sparsities, st.integers(0, 9))
def test_nothing_kept_scores_less_than_anything_dropped(
    counts: list[int], sparsity: float, seed: int
) -> None:
    scores = scores_of(counts, seed)
    masks = smallest_global(scores, sparsity)
    kept = torch.cat([scores[n][masks[n]] for n in scores])
    dropped = torch.cat([scores[n][~masks[n]] for n in scores])
    if len(kept) and len(dropped):
        assert kept.min() >= dropped.max()


@given(sizes, st.floats(0, 0.9), st.floats(0, 0.1), st.integers(0, 9))
def test_more_sparsity_only_adds_zeros(
    counts: list[int], sparsity: float, more: float, seed: int
) -> None:
    scores = scores_of(counts, seed, levels=5)
    less, greater = (smallest_global(scores, s) for s in (sparsity, sparsity + more))
    assert all(bool((less[n] | ~greater[n]).all()) for n in scores)


def test_threshold_drops_what_is_smaller_and_keeps_what_is_equal() -> None:
    mask = below({"a": torch.tensor([0.0, 0.4, 0.5, 0.6])}, 0.5)["a"]
    assert mask.tolist() == [False, False, True, True]


@given(st.integers(0, 9))
def test_magnitude_ignores_the_sign(seed: int) -> None:
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(magnitude(weight), magnitude(-weight))
    assert all(score(weight).shape == weight.shape for score in SCORES.values())


def test_an_emptied_layer_is_refused_by_name() -> None:
    masks = {"first": torch.ones(2, dtype=torch.bool), "last": torch.zeros(2, dtype=torch.bool)}
    with pytest.raises(InvalidInput, match=r"sparsity: got 0.99.*layer last"):
        refuse_empty(masks, "sparsity", 0.99)
