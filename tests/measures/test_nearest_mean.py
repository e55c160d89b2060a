import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import nearest_mean_accuracy as slow_accuracy
from sklearn.neighbors import NearestCentroid
from windows import blobs, means_of, source_window

from le_callback.measures.nearest_mean import MEASURE, nearest_mean_accuracy

properties = settings(deadline=None, max_examples=40)


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
@given(seed=st.integers(0, 2**20), K=st.integers(2, 6), p=st.integers(1, 6))
def test_hits_of_a_window_are_those_of_sklearn_with_the_means_before(seed, K, p):
    x, y = blobs(seed, K, p)
    others, other_labels = blobs(seed + 7, K, p)
    fitted = NearestCentroid().fit(others.numpy(), other_labels.numpy())
    found = MEASURE.compute(source_window(x, y, K, means_of(others, other_labels, K)))
    right = fitted.predict(x.numpy()) == y.numpy()
    assert found.tried.tolist() == [int((y == k).sum()) for k in range(K)]
    assert found.hits.tolist() == [int(right[y.numpy() == k].sum()) for k in range(K)]
    assert found.accuracy == right.mean()
    np.testing.assert_array_equal(found.class_accuracy, found.hits / found.tried)


def test_classes_without_a_mean_from_before_are_not_tried():
    x, y = blobs(0, K=3)
    before = means_of(x, y, 3)
    before[1] = torch.nan
    found = MEASURE.compute(source_window(x, y, 3, before))
    assert found.tried[1] == found.hits[1] == 0
    assert found.tried[0] == (y == 0).sum()
    assert math.isnan(found.class_accuracy[1])
    assert found.accuracy == found.hits.sum() / found.tried.sum()


def test_first_window_has_no_accuracy():
    x, y = blobs(0)
    for window in (source_window(x, y, 4), source_window(x, y, 4, torch.full((4, 5), torch.nan))):
        found = MEASURE.compute(window)
        assert math.isnan(found.accuracy)
        assert np.isnan(found.class_accuracy).all()
        assert found.classes == (0, 1, 2, 3)


def test_rows_are_the_classes_of_the_window():
    x, y = blobs(1, K=3)
    found = MEASURE.compute(source_window(x, 2 * y, 6, means_of(x, y, 3).repeat_interleave(2, 0)))
    assert found.classes == (0, 2, 4)
    assert found.tried.tolist() == torch.bincount(y).tolist()
