import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import discriminability as slow_discriminability
from oracles import held_out_discriminability as slow_held_out
from scipy.stats import kstest, t
from windows import blobs, means_of, source_window

from le_callback.measures import geometry
from le_callback.measures.discriminability import (
    MEASURE,
    held_out_discriminability,
    pair_discriminability,
    score_discriminability,
    worst_pairs,
)
from le_callback.measures.geometry import centred_gram

properties = settings(deadline=None, max_examples=40)


@properties
@given(
    seed=st.integers(0, 2**20), K=st.integers(2, 6), p=st.integers(1, 6), n=st.integers(8, 40), held_out=st.booleans()
)
def test_discriminability_agrees_with_the_double_loop(seed, K, p, n, held_out):
    features, labels = blobs(seed, K, p, n=n)
    means = torch.randn(K, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if not held_out:
        means = means_of(features, labels, K)
    measured = pair_discriminability(features, labels, means)
    expected = slow_discriminability(features, labels, means)
    np.testing.assert_allclose(measured.numpy(), expected, rtol=1e-9)
    assert measured.diagonal().isnan().all()


def test_discriminability_of_close_means_among_many_in_single_precision():
    """From 26 rows on ``torch.cdist`` multiplies out; in single precision the closest pair was off by a fifth."""
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(40, 20, generator=g, dtype=torch.float64)
    centres[1] = centres[0] + 1e-3 * torch.randn(20, generator=g, dtype=torch.float64)
    labels = torch.arange(40).repeat(10)
    features = centres[labels] + 0.1 * torch.randn(400, 20, generator=g, dtype=torch.float64)
    features, centres = features.float(), centres.float()
    measured = pair_discriminability(features, labels, centres)
    assert measured.dtype == torch.float32
    np.testing.assert_allclose(measured.numpy(), slow_discriminability(features, labels, centres), rtol=5e-4)


def test_discriminability_far_from_the_origin_in_single_precision():
    features, labels = blobs(5, spread=0.3)
    features = (features + 300).float()
    means = means_of(features, labels, 4)
    expected = slow_discriminability(features, labels, means)
    np.testing.assert_allclose(pair_discriminability(features, labels, means).numpy(), expected, rtol=1e-3)


def test_unseen_class_is_unknown_and_leaves_the_others_alone():
    features, labels = blobs(7, K=3)
    means = means_of(features, labels, 3)
    alone = pair_discriminability(features, labels, means)
    widened = torch.cat([means[:1], torch.full((1, 5), torch.nan, dtype=torch.float64), means[1:]])
    renumbered = torch.tensor([0, 2, 3])[labels]
    pairs = pair_discriminability(features, renumbered, widened)
    assert pairs[1].isnan().all()
    assert pairs[:, 1].isnan().all()
    rest = pairs[[0, 2, 3]][:, [0, 2, 3]]
    np.testing.assert_allclose(rest.numpy(), alone.numpy(), rtol=1e-12)


def test_class_with_a_mean_but_no_sample_is_unknown():
    features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    pairs = pair_discriminability(features, torch.zeros(4, dtype=torch.long), torch.tensor([[1.5], [9.0]]))
    assert pairs.isnan().all()


@pytest.mark.parametrize(("counts", "known"), [((1, 1), False), ((2, 1), True), ((1, 2), True), ((0, 3), False)])
def test_too_few_samples_are_unknown(counts, known):
    labels = torch.tensor([0] * counts[0] + [1] * counts[1])
    features = torch.tensor([[0.0], [0.5], [5.0]])[: len(labels)]
    pairs = pair_discriminability(features, labels, torch.tensor([[0.0], [4.0]]))
    assert bool(pairs[0, 1].isnan()) is not known
    assert bool(pairs[1, 0].isnan()) is not known


def test_given_products_change_nothing(monkeypatch):
    monkeypatch.setattr(geometry, "WIDE_NUMBERS", 0)
    features, labels = blobs(11)
    means = means_of(features, labels, 4)
    expected = slow_discriminability(features, labels, means)
    found = pair_discriminability(features, labels, means, centred_gram(means))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_classes_with_one_sample_take_part_in_pairs():
    features, labels = blobs(12, K=3)
    keep = (labels != 1) | (torch.arange(len(labels)) == int((labels == 1).nonzero()[0]))
    features, labels = features[keep], labels[keep]
    means = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = slow_discriminability(features, labels, means)
    assert np.isfinite(expected[0, 1])
    np.testing.assert_allclose(pair_discriminability(features, labels, means).numpy(), expected, rtol=1e-9)


@properties
@given(seed=st.integers(0, 2**20), K=st.integers(2, 5), p=st.integers(1, 6))
def test_held_out_discriminability_is_that_of_projected_samples(seed, K, p):
    x, y = blobs(seed, K, p)
    m = torch.randn(K, p, generator=torch.Generator().manual_seed(seed + 5), dtype=torch.float64)
    np.testing.assert_allclose(held_out_discriminability(x, y, m), slow_held_out(x, y, m), rtol=1e-6)


def test_with_the_means_of_the_samples_it_is_the_discriminability():
    x, y = blobs(3)
    means = torch.stack([x[y == k].mean(0) for k in range(4)])
    np.testing.assert_allclose(held_out_discriminability(x, y, means), slow_discriminability(x, y, means), rtol=1e-8)


def test_equal_classes_give_a_t_statistic_in_many_dimensions():
    """Few samples in 100 dimensions: the plain discriminability would be far above zero. False alarm rate 1e-4."""
    g = torch.Generator().manual_seed(0)
    y = torch.arange(10) % 2
    found = [
        held_out_discriminability(torch.randn(10, 100, generator=g), y, torch.randn(2, 100, generator=g))[0, 1].item()
        for _ in range(1000)
    ]
    assert kstest(np.array(found) / math.sqrt(2 / 5), t(8).cdf).pvalue > 1e-4


def test_pairs_of_logits_are_projections_on_two_columns():
    z, y = blobs(1, K=3, p=3)
    pairs = score_discriminability(z, y)
    np.testing.assert_allclose(pairs, pairs.T)
    assert pairs.diagonal().isnan().all()
    s = z[:, 0] - z[:, 2]
    a, b = s[y == 0], s[y == 2]
    pooled = (((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / (len(a) + len(b) - 2)
    assert pairs[0, 2].item() == pytest.approx(((a.mean() - b.mean()) / pooled.sqrt()).item())


def test_worst_pairs_are_sorted_and_known():
    pairs = torch.full((4, 4), torch.nan)
    for (a, b), value in {(0, 1): 3.0, (0, 3): 1.0, (1, 3): 2.0}.items():
        pairs[a, b] = pairs[b, a] = value
    assert worst_pairs(pairs, "abcd", 5) == (("a", "d", 1.0), ("b", "d", 2.0), ("a", "b", 3.0))


def test_identical_points_are_infinitely_discriminable():
    features, labels = torch.tensor([[0.0], [0.0], [1.0], [1.0]]).double(), torch.tensor([0, 0, 1, 1])
    means = torch.tensor([[0.0], [1.0]]).double()
    assert pair_discriminability(features, labels, means)[0, 1] == math.inf
    found = MEASURE.compute(source_window(features, labels, 2, means))
    assert found.smallest == math.inf
    assert found.pair == (0, 1)


def test_a_finite_pair_beats_infinite_ones():
    features = torch.tensor([[0.0], [0.0], [1.0], [1.0], [2.0], [4.0]]).double()
    found = MEASURE.compute(source_window(features, torch.tensor([0, 0, 1, 1, 2, 2]), 3))
    assert found.pair == (1, 2)
    # squares of 0 and 2 over 2 degrees of freedom: σ = 1, distance 2
    assert found.smallest == pytest.approx(2.0, rel=1e-6)


def test_everything_at_one_point_is_unknown():
    found = MEASURE.compute(source_window(torch.ones(6, 2).double(), torch.tensor([0, 0, 0, 1, 1, 1]), 2))
    assert math.isnan(found.smallest)
    assert found.pair is None
    assert found.worst == ()


@properties
@given(seed=st.integers(0, 2**20), K=st.integers(2, 6))
def test_a_window_is_measured_along_the_means_before(seed, K):
    features, labels = blobs(seed, K)
    previous = torch.randn(K, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    every_third = previous.repeat_interleave(3, 0)  # classes 0, 3, 6, … are seen
    found = MEASURE.compute(source_window(features, 3 * labels, 3 * K, every_third))
    expected = slow_held_out(features, labels, previous)
    assert found.held_out
    assert found.classes == tuple(range(0, 3 * K, 3))
    np.testing.assert_allclose(found.pairs, expected, rtol=1e-9)
    assert found.smallest == pytest.approx(np.nanmin(expected), rel=1e-9)
    first, second = (k // 3 for k in found.pair)
    assert expected[first, second] == pytest.approx(np.nanmin(expected), rel=1e-9)
    assert found.samples.tolist() == torch.bincount(labels).tolist()
    assert [d for _, _, d in found.worst] == pytest.approx(sorted(expected[np.triu_indices(K, 1)])[:3])


def test_first_window_is_measured_along_its_own_means():
    features, labels = blobs(0)
    found = MEASURE.compute(source_window(features, labels, 4))
    expected = slow_discriminability(features, labels, means_of(features, labels, 4))
    assert not found.held_out
    np.testing.assert_allclose(found.pairs, expected, rtol=1e-9)
    assert found.smallest == pytest.approx(np.nanmin(expected), rel=1e-9)
