"""Pruning removes exactly what it says it removes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from compression.errors import InvalidInput
from compression.methods.calibration.second_moments import SecondMoments, damped
from compression.methods.prune.masks import (
    below,
    best_of_each,
    refuse_empty,
    smallest_global,
    smallest_per_layer,
    spread_count,
)
from compression.methods.prune.scores import SCORES, Evidence

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


def evidence(seed: int) -> Evidence:
    """All that any score asks for, of a grouped layer one of whose inputs is always zero."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 5, 50, generator=g)
    x[:, 3] = 0
    gram = x @ x.transpose(1, 2) / 50
    seen = torch.tensor([True, True, True, True, True, False])
    weight, slopes = (torch.randn(2, 4, 6, generator=g) for _ in range(2))
    return Evidence(
        weight,
        SecondMoments(seen, gram, gram),
        (weight * slopes).abs(),
        slopes.square(),
        torch.rand(weight.shape, generator=g),
    )


@given(st.integers(0, 99), st.sampled_from(sorted(SCORES)))
def test_scores_are_finite_not_negative_and_ignore_the_sign(seed: int, name: str) -> None:
    known = evidence(seed)
    found = SCORES[name].of(known)
    assert found.shape == known.weight.shape
    assert bool(torch.isfinite(found).all()) and bool((found >= 0).all())
    assert torch.equal(found, SCORES[name].of(replace(known, weight=-known.weight)))


@given(st.integers(0, 99))
def test_activation_score_is_the_weight_times_the_size_of_its_input(seed: int) -> None:
    known = evidence(seed)
    assert known.moments is not None
    power = known.moments.gram.diagonal(dim1=1, dim2=2).sqrt()
    found = SCORES["activation"].of(known)
    assert torch.allclose(found[..., :5], known.weight.abs()[..., :5] * power.unsqueeze(1))
    assert bool((found[..., 3] == 0).all())  # its input is always zero
    assert bool((found[..., 5] == 0).all())  # it sees nothing but padding


@given(st.integers(0, 99))
def test_obs_score_is_the_loss_once_the_others_have_adjusted(seed: int) -> None:
    known = evidence(seed)
    assert known.moments is not None
    w, gram = known.weight[0, :, :5].double(), damped(known.moments.gram, 0.01)[0].double()
    found = SCORES["obs"].of(known)[0, :, :5].double()
    for j in range(5):
        others = [k for k in range(5) if k != j]
        # what is left of input j when the other inputs have stood in for it
        coupled = gram[j, others] @ torch.linalg.solve(gram[others][:, others], gram[others, j])
        assert torch.allclose(found[:, j].square(), w[:, j].square() * (gram[j, j] - coupled))


def test_fisher_is_the_square_of_taylor_for_a_single_batch() -> None:
    known = evidence(0)
    assert torch.allclose(SCORES["fisher"].of(known), SCORES["taylor"].of(known).square())


def test_a_score_without_its_evidence_is_an_error() -> None:
    for score in (s for s in SCORES.values() if s.needs != "nothing"):
        with pytest.raises(ValueError, match="not measured"):
            score.of(Evidence(torch.ones(1, 2, 3)))


@given(
    st.sampled_from([(2, 4), (4, 8), (1, 4)]),
    st.integers(1, 3),
    st.integers(0, 9),
    st.sampled_from([2, 1000]),
    st.sampled_from([(), (3,), (3, 2)]),
)
def test_n_of_m_keeps_the_best_of_every_run_of_inputs(
    pattern: tuple[int, int], runs: int, seed: int, levels: int, kernel: tuple[int, ...]
) -> None:
    kept, group = pattern
    g = torch.Generator().manual_seed(seed)
    score = torch.randint(0, levels, (5, runs * group, *kernel), generator=g).float()
    mask = best_of_each(score, kept, group)
    assert mask is not None and mask.shape == score.shape
    stays, scores = (t.unflatten(1, (runs, group)).movedim(2, -1) for t in (mask, score))
    assert bool((stays.sum(-1) == kept).all())
    least = torch.where(stays, scores, torch.inf).amin(-1)
    best_dropped = torch.where(stays, -torch.inf, scores).amax(-1)
    assert bool((least >= best_dropped).all())


@pytest.mark.parametrize("inputs", [1, 2, 3, 6])
def test_inputs_that_do_not_divide_into_groups_have_no_mask(inputs: int) -> None:
    assert best_of_each(torch.rand(4, inputs, 3, 3), 2, 4) is None


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1), st.floats(0, 1))
def test_counts_move_to_add_up_and_stay_in_their_bounds(
    pairs: list[tuple[int, int]], share: float
) -> None:
    most = [max(p) for p in pairs]
    counts, total = [min(p) for p in pairs], round(share * sum(most))
    found = spread_count(counts, most, total)
    assert sum(found) == total
    assert all(0 <= f <= m for f, m in zip(found, most, strict=True))
    up = total >= sum(counts)
    assert all(f >= c if up else f <= c for f, c in zip(found, counts, strict=True))
    with pytest.raises(ValueError, match="more than all layers have"):
        spread_count(counts, most, sum(most) + 1)


def test_an_emptied_layer_is_refused_by_name() -> None:
    masks = {"first": torch.ones(2, dtype=torch.bool), "last": torch.zeros(2, dtype=torch.bool)}
    with pytest.raises(InvalidInput, match=r"sparsity: got 0.99.*layer last"):
        refuse_empty(masks, "sparsity", 0.99)
