"""Numbers of directions against covariances that are known or computed slowly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from windows import blobs, source_window

from le_callback.measures import SourceWindow
from le_callback.measures.spread import MEASURE, MIN_SAMPLES, sample_spread


def slow_spread(x, labels):
    """Both numbers from explicit scatter matrices."""
    p, classes = x.shape[1], np.unique(labels)
    total = np.cov(x.T, bias=True).reshape(p, p)
    inner = np.concatenate([x[labels == k] - x[labels == k].mean(0) for k in classes])
    dof = len(x) - len(classes)
    within = inner.T @ inner / dof
    squares = np.trace(within @ within) - np.trace(within) ** 2 / dof
    return np.trace(total) ** 2 / np.trace(total @ total), np.clip(np.trace(within) ** 2 / squares, 1, p)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**20), n=st.integers(20, 100), p=st.integers(2, 120), K=st.integers(2, 6))
def test_spread_is_that_of_the_scatter_matrices(seed, n, p, K):
    rng = np.random.default_rng(seed)
    labels = rng.integers(K, size=n)
    x = rng.normal(size=(n, p)) * np.linspace(0.1, 3, p) + 5 * rng.normal(size=(K, p))[labels]
    found = sample_spread(torch.from_numpy(x), torch.from_numpy(7 * labels), 7 * K)
    np.testing.assert_allclose(found, slow_spread(x, labels), rtol=1e-8)


@pytest.mark.parametrize("spread", [[1.0] * 6, [3.0, 1.0, 0.1, 0.1, 0.1, 0.1]])
def test_dimensions_of_a_known_covariance(spread):
    """Mean over 50 windows of 2,000 samples in 4 classes, of which 128 are read: within 5 % of (tr Σ)²/tr(Σ²)."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(50):
        labels = rng.integers(4, size=2000)
        x = rng.normal(size=(2000, 6)) * np.array(spread) + 50 * labels[:, None]
        found.append(sample_spread(torch.from_numpy(x), torch.from_numpy(labels), 4).dimensions)
    variances = np.square(spread)
    assert np.mean(found) == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=0.05)


def test_too_few_to_tell_and_a_single_point():
    x, labels = torch.randn(2, 6), torch.tensor([0, 1])
    assert sample_spread(x, labels, 2).dimensions == 6
    assert sample_spread(torch.ones(9, 3), torch.arange(9) % 3, 3) == (0.0, 3.0)


def test_collapsed_classes_far_apart_keep_their_dimensions():
    """Scatter a million times smaller than the distances, in single precision."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(MIN_SAMPLES) % 2
    line = torch.randn(MIN_SAMPLES, 1, generator=g) * 2**-10
    x = torch.cat([line, torch.zeros(MIN_SAMPLES, 3)], 1) + 1024 * labels.unsqueeze(1)
    assert sample_spread(x, labels, 2).dimensions == pytest.approx(1.0, abs=0.1)


def test_a_window_is_measured_by_its_samples():
    x, y = blobs(3, K=3)
    found = MEASURE.compute(source_window(x, 2 * y, 6))
    np.testing.assert_allclose(found, slow_spread(x.numpy(), y.numpy()), rtol=1e-8)
    empty = source_window(x, y, 3)
    assert MEASURE.compute(SourceWindow("features", empty.statistics, x[:0], y[:0], None)) is None
