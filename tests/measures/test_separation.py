import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import discriminability as slow_discriminability
from oracles import held_out_discriminability as slow_held_out
from oracles import nearest_mean_accuracy as slow_accuracy
from sklearn.neighbors import NearestCentroid

from le_callback import ClassMoments
from le_callback.measures import separation
from le_callback.measures.neural_collapse import centred_gram
from le_callback.measures.separability import measure_classes
from le_callback.measures.separation import (
    measure_separation,
    nearest_mean_accuracy,
    pair_discriminability,
    squared_distances,
)

properties = settings(deadline=None, max_examples=40)


def blobs(seed, K=4, p=5, n=40, spread=1.0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(K), torch.randint(K, (n - K,), generator=g)])
    centres = torch.randn(K, p, generator=g, dtype=torch.float64)
    features = centres[labels] + spread * torch.randn(n, p, generator=g, dtype=torch.float64)
    return features.to(dtype), labels


def means_of(features, labels, K):
    return torch.stack([features[labels == k].mean(0) for k in range(K)])


@properties
@given(seed=st.integers(0, 2**20), K=st.integers(2, 6), p=st.integers(1, 6), spread=st.sampled_from([0.1, 1.0, 3.0]))
def test_accuracy_is_that_of_sklearn_and_of_the_loop(seed, K, p, spread):
    features, labels = blobs(seed, K, p, spread=spread)
    means = means_of(features, labels, K)
    measured = nearest_mean_accuracy(features, labels, means)
    assert measured == NearestCentroid().fit(features.numpy(), labels.numpy()).score(features.numpy(), labels.numpy())
    assert measured == slow_accuracy(features, labels.tolist(), means)


@properties
@given(seed=st.integers(0, 2**20))
def test_held_out_accuracy_uses_the_given_means(seed):
    features, labels = blobs(seed)
    others, other_labels = blobs(seed + 1)
    fitted = NearestCentroid().fit(others.numpy(), other_labels.numpy())
    measured = nearest_mean_accuracy(features, labels, means_of(others, other_labels, 4))
    assert measured == fitted.score(features.numpy(), labels.numpy())


def test_accuracy_far_from_the_origin_in_single_precision():
    features, labels = blobs(3, spread=0.8)
    means = means_of(features, labels, 4)
    expected = slow_accuracy(features, labels.tolist(), means)
    assert 0.5 < expected < 1
    shifted = nearest_mean_accuracy((features + 1000).float(), labels, (means + 1000).float())
    assert shifted == expected


def test_classes_without_a_mean_are_no_candidates():
    means = torch.tensor([[0.0], [math.nan], [10.0]])
    features, labels = torch.tensor([[0.1], [5.5], [9.0], [5.1]]), torch.tensor([0, 1, 2, 2])
    assert nearest_mean_accuracy(features, labels, means) == 0.75
    assert slow_accuracy(features, labels.tolist(), means) == 0.75


def test_accuracy_of_nothing_is_unknown():
    assert math.isnan(nearest_mean_accuracy(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), torch.zeros(3, 2)))
    nothing = torch.full((2, 2), torch.nan)
    assert math.isnan(nearest_mean_accuracy(torch.ones(3, 2), torch.zeros(3, dtype=torch.long), nothing))


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


def measured_by(features, labels, means, previous, classes=None):
    """The separation of a window whose means before were ``previous``."""
    K, p = means.shape
    metric = ClassMoments(num_classes=K, num_features=p, reference=torch.zeros(K, p, dtype=torch.float64))
    metric.update(features, labels)
    names = range(K) if classes is None else classes
    found = measure_classes(features, labels, metric.compute()._replace(mean=means), previous, names)
    return measure_separation(features, labels, means, found)


def test_identical_points_are_infinitely_discriminable():
    features, labels = torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1])
    means = torch.tensor([[0.0], [1.0]])
    assert pair_discriminability(features, labels, means)[0, 1] == math.inf
    measured = measured_by(features.double(), labels, means.double(), means.double())
    assert measured.discriminability == math.inf
    assert measured.pair == (0, 1)
    assert measured.nearest_mean_accuracy == 1.0


def test_a_finite_pair_beats_infinite_ones():
    features = torch.tensor([[0.0], [0.0], [1.0], [1.0], [2.0], [4.0]])
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    measured = measured_by(features.double(), labels, torch.tensor([[0.0], [1.0], [3.0]]).double(), None)
    assert measured.pair == (1, 2)
    # squares of 0 and 2 over 2 degrees of freedom: σ = 1, distance 2
    assert measured.discriminability == pytest.approx(2.0, rel=1e-6)


def test_everything_at_one_point_is_unknown():
    features, labels = torch.ones(6, 2), torch.tensor([0, 0, 0, 1, 1, 1])
    measured = measured_by(features.double(), labels, torch.ones(2, 2).double(), None)
    assert math.isnan(measured.discriminability)
    assert measured.pair is None


@properties
@given(seed=st.integers(0, 2**20), K=st.integers(2, 6))
def test_measured_separation_is_the_worst_pair(seed, K):
    features, labels = blobs(seed, K)
    previous = torch.randn(K, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    means = means_of(features, labels, K)
    names = [10 * k for k in range(K)]
    measured = measured_by(features, labels, means, previous, names)
    expected = slow_held_out(features, labels, previous)
    assert measured.discriminability == pytest.approx(np.nanmin(expected), rel=1e-9)
    first, second = (names.index(name) for name in measured.pair)
    assert expected[first, second] == pytest.approx(np.nanmin(expected), rel=1e-9)
    assert measured.nearest_mean_accuracy == slow_accuracy(features, labels.tolist(), previous)
    assert measured.samples == len(labels)


def test_first_window_has_no_accuracy_and_no_samples_no_pair():
    features, labels = blobs(0)
    means = means_of(features, labels, 4)
    first = measured_by(features, labels, means, None)
    assert math.isnan(first.nearest_mean_accuracy)
    assert first.discriminability == pytest.approx(np.nanmin(slow_discriminability(features, labels, means)), rel=1e-9)
    nothing = measured_by(features[:0], labels[:0], means, means)
    assert (nothing.pair, nothing.samples) == (None, 0)
    assert math.isnan(nothing.discriminability)
    assert math.isnan(nothing.nearest_mean_accuracy)


@pytest.mark.parametrize("close_pairs", [8, 0])
def test_distances_of_many_classes_in_single_precision(monkeypatch, close_pairs):
    """Products of the means where these are far apart, differences where they are not; all differences if too many."""
    monkeypatch.setattr(separation, "WIDE_NUMBERS", 0)
    monkeypatch.setattr(separation, "MAX_CLOSE_PAIRS", close_pairs)
    g = torch.Generator().manual_seed(0)
    means = torch.randn(300, 40, generator=g)
    means[1] = means[0] + 1e-4 * torch.randn(40, generator=g)
    means[7] = means[290] + 1e-2 * torch.randn(40, generator=g)
    means[9] = means[8]
    expected = torch.cdist(means.double(), means.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    for gram in (None, centred_gram(means)):
        torch.testing.assert_close(squared_distances(means, gram).double(), expected, rtol=3e-5, atol=1e-12)


def test_gram_in_blocks_is_the_whole_gram():
    means = torch.randn(600, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centred = means - means.mean(0)
    torch.testing.assert_close(centred_gram(means), centred @ centred.T, rtol=1e-12, atol=1e-12)


def test_given_products_change_nothing(monkeypatch):
    monkeypatch.setattr(separation, "WIDE_NUMBERS", 0)
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
