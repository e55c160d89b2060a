"""Separation probabilities against counting, simulation, numerical integration and closed forms.

Fixed seeds; Monte-Carlo comparisons within 5 standard errors (error probability 6e-7 each) unless said otherwise.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from le_callback import IModel
from le_callback.simulation import (
    gaussian_separation_probability,
    simulate_sde,
    simulated_separation_probability,
)


@pytest.mark.parametrize("along_line", [False, True])
def test_simulated_probability_equals_counting(along_line):
    rng = np.random.default_rng(0)
    S, T, K, p, n = 61, 2, 3, 2, 3
    x = rng.standard_normal((S, T, K, p)) + 1.2 * rng.standard_normal((K, p))
    nu = rng.standard_normal(p)
    found = simulated_separation_probability(torch.tensor(x), n, torch.tensor(nu) if along_line else None)
    for t in range(T):
        for k in range(K):
            for other in range(K):
                if k == other:
                    assert math.isnan(found[t, k, k])
                    continue
                line = nu if along_line else x[:, t, k].mean(0) - x[:, t, other].mean(0)
                count = 0
                for g in range(S // n):
                    a = [float(x[s, t, k] @ line) for s in range(g * n, g * n + n)]
                    b = [float(x[s, t, other] @ line) for s in range(g * n, g * n + n)]
                    count += min(a) > max(b) or (along_line and min(b) > max(a))
                assert found[t, k, other] == pytest.approx(count / (S // n))


@pytest.mark.parametrize("n", [1, 2, 10])
def test_gaussian_probability_against_simulation_and_the_bound(n):
    """LE-SDE samples, whose covariance is known: both probabilities agree."""
    K, p, S, sigma = 3, 2, 40000, 0.5
    start = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    x = simulate_sde(start, (0.0, 0.0), IModel(), [0.0, 1.0, 4.0], noise=sigma, samples=S, generator=g)[:, 1:]
    C = sigma**2 * torch.eye(p, dtype=torch.float64).expand(K, p, p)
    C = torch.stack([C, 4 * C])
    for direction in (None, torch.tensor([1.0, 0.5], dtype=torch.float64)):
        exact = gaussian_separation_probability(start.expand(2, K, p), C, n, direction)
        counted = simulated_separation_probability(x, n, direction)
        error = (exact * (1 - exact) / (S // n)).sqrt() + 1e-4
        off = ~torch.eye(K, dtype=torch.bool)
        assert bool(((exact - counted).abs() < 5 * error)[:, off].all())
    gap = torch.cdist(start, start)
    below = torch.tensor(stats.norm.cdf((gap / (2 * sigma)).numpy()) ** (2 * n))
    exact = gaussian_separation_probability(start, C[0], n)
    assert bool((exact >= below - 1e-12)[off].all())


@pytest.mark.parametrize("n", [5, 50, 500])
def test_gaussian_probability_is_the_simulated_frequency(n):
    """Within 3 points; 4,000 simulated pairs of samples have a standard error of at most 0.8 points."""
    rng = np.random.default_rng(n)
    for D in (0.5, 2.0, 4.0, 6.0, 8.0):
        hits = np.mean([rng.standard_normal(n).max() < D + rng.standard_normal(n).min() for _ in range(4000)])
        assert on_a_line(D, 1.0, 1.0, n) == pytest.approx(hits, abs=0.03)


def on_a_line(gap, upper, lower, n, direction=None):
    """Two Gaussian classes in one dimension, the first above."""
    means = torch.tensor([[gap], [0.0]], dtype=torch.float64)
    covariances = torch.tensor([upper**2, lower**2], dtype=torch.float64).reshape(2, 1, 1)
    return gaussian_separation_probability(means, covariances, n, direction)[0, 1].item()


def by_quad(gap, upper, lower, n):
    """∫ f(x) P(all of the upper class are above lower·x) dx, f the density of the largest of n normal numbers."""

    def integrand(x):
        above = n * stats.norm.logcdf((gap - lower * x) / upper)
        return np.exp(math.log(n) + stats.norm.logpdf(x) + (n - 1) * stats.norm.logcdf(x) + above)

    where = stats.norm.ppf(0.5 ** (1 / n))
    inside = sorted({where, where + 0.5, min(max(gap / lower, where - 9), where + 11)})
    return quad(integrand, where - 10, where + 12, points=inside, limit=400, epsabs=1e-12)[0]


@pytest.mark.parametrize("n", [1, 2, 7, 300, 10**6])
@pytest.mark.parametrize("D", [0.2, 1.5, 6.0, 11.0])
@pytest.mark.parametrize(("upper", "lower"), [(1.0, 1.0), (2.0, 0.5), (0.5, 2.0), (1.0, 0.05), (0.05, 1.0)])
def test_gaussian_probability_is_the_integral(n, D, upper, lower):
    assert on_a_line(D, upper, lower, n) == pytest.approx(by_quad(D, upper, lower, n), abs=1e-8)


@pytest.mark.parametrize("n", [1, 7, 300, 10**6])
@pytest.mark.parametrize("D", [-1.0, 0.0, 1.0, 6.0])
@pytest.mark.parametrize(("upper", "lower"), [(1.0, 1.0), (0.5, 2.0)])
def test_along_a_given_line_either_class_may_be_above(n, D, upper, lower):
    expected = by_quad(D, upper, lower, n) + by_quad(-D, lower, upper, n)
    assert on_a_line(D, upper, lower, n, torch.ones(1)) == pytest.approx(expected, abs=1e-8)


def test_gaussian_probability_of_one_sample_is_a_normal_tail():
    m = torch.tensor([[0.0, 1.0], [0.5, -0.3]], dtype=torch.float64)
    root = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    C = root @ root.mT
    nu = m[0] - m[1]
    expected = stats.norm.cdf(float(nu @ nu / (nu @ (C[0] + C[1]) @ nu).sqrt()))
    assert gaussian_separation_probability(m, C, 1)[0, 1].item() == pytest.approx(expected, abs=1e-10)


def test_gaussian_probability_at_the_ends():
    assert on_a_line(0.7, 1.0, 1.0, 1) == pytest.approx(stats.norm.cdf(0.7 / math.sqrt(2)), abs=1e-10)
    assert on_a_line(1.0, 0.0, 0.0, 5) == pytest.approx(1.0)  # no noise: the gap decides
    assert on_a_line(1e9, 1.0, 1.0, 5) == pytest.approx(1.0)
    assert on_a_line(0.0, 0.0, 0.0, 5, torch.ones(1)) == 0.0
    for upper, lower in ((1.0, 0.0), (0.0, 1.0)):  # one class in a point: n samples of the other on its right side
        assert on_a_line(1.3, upper, lower, 5) == pytest.approx(stats.norm.cdf(1.3) ** 5, abs=1e-10)


@pytest.mark.parametrize("n", [0, 1.5, True])
def test_number_of_samples_is_checked(n):
    with pytest.raises(ValueError, match="`n`"):
        simulated_separation_probability(torch.ones(4, 2, 1), n)
    with pytest.raises(ValueError, match="`n`"):
        gaussian_separation_probability(torch.ones(2, 1), torch.ones(2, 1, 1), n)


def test_too_few_paths_and_wrong_directions_are_named():
    with pytest.raises(ValueError, match="`samples` to be at least n = 5"):
        simulated_separation_probability(torch.ones(4, 2, 1), 5)
    with pytest.raises(ValueError, match="`direction`"):
        simulated_separation_probability(torch.ones(4, 2, 1), 2, torch.zeros(1))
    with pytest.raises(ValueError, match="`covariances`"):
        gaussian_separation_probability(torch.ones(2, 3), torch.ones(2, 3), 2)
    with pytest.raises(ValueError, match="`means` to be of shape"):
        gaussian_separation_probability(torch.ones(1, 3), torch.ones(1, 3, 3), 2)
    with pytest.raises(ValueError, match="`means` to be finite"):
        gaussian_separation_probability(torch.full((2, 1), torch.nan), torch.ones(2, 1, 1), 2)
