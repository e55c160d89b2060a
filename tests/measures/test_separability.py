import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import discriminability as slow_discriminability
from oracles import held_out_discriminability as slow_held_out
from scipy.stats import kstest, t
from sklearn.neighbors import NearestCentroid

from le_callback import ClassMoments, SeparationMonitor
from le_callback.measures.separability import (
    class_hits,
    discriminability_growth,
    held_out_discriminability,
    linearisation,
    measure_classes,
    measure_head,
    score_discriminability,
    worst_pairs,
)

properties = settings(deadline=None, max_examples=30)


def blobs(seed, K=4, p=5, n=40, spread=1.0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(K), torch.randint(K, (n - K,), generator=g)])
    centres = torch.randn(K, p, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return centres[labels] + spread * torch.randn(n, p, generator=g, dtype=torch.float64), labels, centres


@properties
@given(seed=st.integers(0, 2**20), K=st.integers(2, 6), p=st.integers(1, 6))
def test_class_hits_are_those_of_sklearn(seed, K, p):
    x, y, _ = blobs(seed, K, p)
    others, other_labels, _ = blobs(seed + 7, K, p)
    fitted = NearestCentroid().fit(others.numpy(), other_labels.numpy())
    means = torch.stack([others[other_labels == k].mean(0) for k in range(K)])
    tried, hits = class_hits(x, y, means)
    right = fitted.predict(x.numpy()) == y.numpy()
    assert tried.tolist() == [int((y == k).sum()) for k in range(K)]
    assert hits.tolist() == [int(right[y.numpy() == k].sum()) for k in range(K)]


def test_classes_without_a_mean_are_not_tried():
    x, y, m = blobs(0, K=3)
    m[1] = torch.nan
    tried, hits = class_hits(x, y, m)
    assert tried[1] == hits[1] == 0
    assert tried[0] == (y == 0).sum()


@properties
@given(seed=st.integers(0, 2**20), K=st.integers(2, 5), p=st.integers(1, 6))
def test_held_out_discriminability_is_that_of_projected_samples(seed, K, p):
    x, y, m = blobs(seed, K, p)
    m = m + torch.randn(K, p, generator=torch.Generator().manual_seed(seed + 5), dtype=torch.float64)
    np.testing.assert_allclose(held_out_discriminability(x, y, m), slow_held_out(x, y, m), rtol=1e-6)


def test_with_the_means_of_the_samples_it_is_the_discriminability():
    x, y, _ = blobs(3)
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
    z, y, _ = blobs(1, K=3, p=3)
    pairs = score_discriminability(z, y)
    np.testing.assert_allclose(pairs, pairs.T)
    assert pairs.diagonal().isnan().all()
    s = z[:, 0] - z[:, 2]
    a, b = s[y == 0], s[y == 2]
    pooled = (((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / (len(a) + len(b) - 2)
    assert pairs[0, 2].item() == pytest.approx(((a.mean() - b.mean()) / pooled.sqrt()).item())


@properties
@given(seed=st.integers(0, 2**20), K=st.integers(2, 5))
def test_head_margins_are_those_of_the_loop(seed, K):
    z, y, _ = blobs(seed, K, K)
    head = measure_head(z, y, K)
    margins = [z[i, y[i]].item() - max(z[i, j].item() for j in range(K) if j != y[i]) for i in range(len(y))]
    assert head.margin == pytest.approx(np.mean(margins))
    assert head.margin_low == pytest.approx(np.quantile(margins, 0.05))
    for k in range(K):
        own = [m for m, label in zip(margins, y, strict=True) if label == k]
        assert head.class_margin[k] == pytest.approx(np.mean(own))
        assert head.accuracy[k] == pytest.approx(np.mean(np.array(own) > 0))


def test_one_logit_for_two_classes():
    head = measure_head(torch.tensor([[2.0], [-1.0], [3.0]]), torch.tensor([1, 0, 0]), 2)
    assert head.margin == pytest.approx((2 + 1 - 3) / 3)
    assert head.hits.tolist() == [1.0, 1.0]
    assert measure_head(torch.zeros(3, 1), torch.tensor([0, 1, 2]), 3) is None


def test_linearisation_against_the_matrices():
    X = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    psi, residue = [], []
    for k in range(4):
        p = X[k].softmax(0).numpy()
        psi.append(np.eye(4)[k] - p)
        residue.append(psi[-1] + (np.diag(p) - np.outer(p, p)) @ X[k].numpy())
    measured = linearisation(X)
    assert measured.psi == pytest.approx(np.sqrt(np.mean(np.square(np.linalg.norm(psi, axis=1)))))
    assert measured.residue == pytest.approx(np.sqrt(np.mean(np.square(np.linalg.norm(residue, axis=1)))))
    assert linearisation(50 * torch.eye(3)).psi < 1e-9


def test_worst_pairs_are_sorted_and_known():
    pairs = torch.full((4, 4), torch.nan)
    for (a, b), value in {(0, 1): 3.0, (0, 3): 1.0, (1, 3): 2.0}.items():
        pairs[a, b] = pairs[b, a] = value
    assert worst_pairs(pairs, "abcd", 5) == (("a", "d", 1.0), ("b", "d", 2.0), ("a", "b", 3.0))


def test_growth_interval_covers():
    """300 noisy exponentials, 95 % intervals: fewer than 90 % covered has probability below 1e-4."""
    rng = np.random.default_rng(0)
    steps = np.arange(12) * 50.0
    covered = 0
    for _ in range(300):
        D = np.exp(0.002 * steps + 0.1 * rng.standard_normal(12))
        g = discriminability_growth(steps, D, [200] * 12)
        covered += g.low <= 0.002 <= g.high
    assert covered >= 270
    assert math.isnan(discriminability_growth([0, 1], [1.0, 2.0], [5, 5]).value)


@pytest.mark.parametrize("soft", [False, True])
def test_scatter_and_radius_are_those_of_all_samples(soft):
    g = torch.Generator().manual_seed(0)
    y = torch.randint(3, (200,), generator=g)
    x = torch.randn(200, 5, generator=g, dtype=torch.float64) + 4 * torch.eye(3, 5, dtype=torch.float64)[y]
    target = torch.rand(200, 3, generator=g, dtype=torch.float64) if soft else y
    metric = ClassMoments(num_classes=3, num_features=5, reference=torch.zeros(3, 5, dtype=torch.float64))
    metric.update(x, target)
    statistics = metric.compute()
    measured = measure_classes(x, y, statistics, None, (0, 1, 2))
    share = target.sum(1, keepdim=True) / target.sum() if soft else torch.full((200, 1), 1 / 200, dtype=torch.float64)
    centre = (share * x).sum(0)
    assert measured.scatter == pytest.approx(float((share * (x - centre) ** 2).sum()), rel=1e-9)
    assert measured.radius == pytest.approx(float((statistics.mean - centre).norm(dim=1).mean()), rel=1e-9)


def test_degenerate_windows_claim_nothing():
    x = torch.zeros(6, 3)
    y = torch.tensor([0, 1] * 3)
    statistics = ClassMoments(num_classes=2, num_features=3)(x, y)
    measured = measure_classes(x, y, statistics, torch.zeros(2, 3), (0, 1))
    assert (measured.between, measured.radius, measured.scatter, measured.dead_units) == (0.0, 0.0, 0.0, 1.0)
    assert np.isnan(measured.pairs).all()
    empty = measure_classes(x[:0], y[:0], statistics, torch.zeros(2, 3), (0, 1))
    assert np.isnan(empty.accuracy).all()


def test_record_of_the_monitor():
    monitor, g = SeparationMonitor(num_classes=3), torch.Generator().manual_seed(0)
    samples = []
    for step in (1, 2):
        y = torch.arange(60) % 3
        x = torch.randn(60, 4, generator=g) + 3 * torch.nn.functional.one_hot(y, 4)
        samples.append((x, y))
        monitor.update(features=x, logits=x[:, :3], target=y)
        record = monitor.close(step)
    measured, head = record.class_separation["features"], record.head
    assert record.class_samples == (20.0, 20.0, 20.0)
    assert measured.hits.sum() / 60 == pytest.approx(record.separation["features"].nearest_mean_accuracy)
    assert record.separation["features"].worst[0][2] == pytest.approx(record.separation["features"].discriminability)
    x, y = samples[1]
    assert head.hits.sum() == (x[:, :3].argmax(1) == y).sum()
    means = torch.stack([x[y == k].mean(0) for k in range(3)])
    assert measured.between == pytest.approx((means - means.mean(0)).square().sum().item() / 3, rel=1e-5)
    assert record.linearisation.psi == pytest.approx(linearisation(means[:, :3]).psi, rel=1e-6)
