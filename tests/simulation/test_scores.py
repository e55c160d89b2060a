"""Relative difference, separation probabilities and exit times against slow versions and closed forms.

Fixed seeds; Monte-Carlo comparisons within 5 standard errors (error probability 6e-7 each).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from le_callback import (
    DirectionModel,
    GeneralModel,
    IModel,
    LModel,
    exit_times,
    gaussian_separation_probability,
    relative_difference,
    simulate_sde,
    simulated_separation_probability,
)


@given(st.integers(0, 1000), st.integers(2, 5))
def test_relative_difference_equals_the_formula(seed, K):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 4, K, K))
    d = rng.standard_normal((K, K))
    root = rng.standard_normal((K, K, K, K))
    blocks = root @ root.transpose(0, 1, 3, 2)
    L = np.eye(K) - 1 / K
    models = {
        LModel(): [np.outer(L[k], L[k]) / (L[k] @ L[k]) for k in range(K)],
        DirectionModel(torch.tensor(d)): [np.outer(d[k], d[k]) / (d[k] @ d[k]) for k in range(K)],
        GeneralModel(torch.tensor(blocks)): [blocks[k, k] for k in range(K)],
        IModel(): [np.eye(K)] * K,
        None: [np.eye(K)] * K,
    }
    for model, H in models.items():
        found = relative_difference(x, y, model)
        for t in range(4):
            for k in range(K):
                z = x[t, k] - y[t, k]
                scale = (np.linalg.norm(x[t, k]) + np.linalg.norm(y[t, k])) / 2
                assert found[t, k] == pytest.approx(math.sqrt(z @ H[k] @ z) / scale, rel=1e-9, abs=1e-12)


def test_relative_difference_refuses_other_shapes():
    with pytest.raises(ValueError, match="`x` and `y`"):
        relative_difference(torch.ones(2, 3), torch.ones(3, 3))


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


def test_gaussian_probability_of_one_sample_is_a_normal_tail():
    m = torch.tensor([[0.0, 1.0], [0.5, -0.3]], dtype=torch.float64)
    root = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    C = root @ root.mT
    nu = m[0] - m[1]
    expected = stats.norm.cdf(float(nu @ nu / (nu @ (C[0] + C[1]) @ nu).sqrt()))
    assert gaussian_separation_probability(m, C, 1)[0, 1].item() == pytest.approx(expected, abs=1e-5)


def test_gaussian_probability_without_noise_is_certain():
    found = gaussian_separation_probability(torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1, 1), 5)
    assert found[0, 1].item() == pytest.approx(1.0)


@pytest.mark.parametrize("n", [0, 1.5, True])
def test_number_of_samples_is_checked(n):
    with pytest.raises(ValueError, match="`n`"):
        simulated_separation_probability(torch.ones(4, 2, 1), n)


def test_too_few_paths_and_wrong_directions_are_named():
    with pytest.raises(ValueError, match="at least n = 5"):
        simulated_separation_probability(torch.ones(4, 2, 1), 5)
    with pytest.raises(ValueError, match="`direction`"):
        simulated_separation_probability(torch.ones(4, 2, 1), 2, torch.zeros(1))
    with pytest.raises(ValueError, match="`covariances`"):
        gaussian_separation_probability(torch.ones(2, 3), torch.ones(2, 3), 2)


@given(st.integers(0, 1000))
def test_exit_times_equal_a_slow_search(seed):
    rng = np.random.default_rng(seed)
    S, T, K, p = 3, 6, 3, 2
    x = rng.standard_normal((S, T, K, p)).cumsum(1)
    times = np.cumsum(rng.uniform(0.1, 1, T))
    nu = rng.standard_normal((K, K, p))
    for event in ("lost", "reached"):
        found = exit_times(torch.tensor(x), times, torch.tensor(nu), event=event, level=0.3)
        for s in range(S):
            for k in range(K):
                for other in range(K):
                    if k == other:
                        continue
                    gap = (x[s, :, k] - x[s, :, other]) @ nu[k, other] - 0.3
                    there = gap <= 0 if event == "lost" else gap > 0
                    expected = math.inf
                    for i in range(T):
                        if there[i]:
                            expected = times[0] if i == 0 else np.interp(0, *_rising(gap, times, i))
                            break
                    assert found[s, k, other] == pytest.approx(expected)


def _rising(gap, times, i):
    order = np.argsort(gap[i - 1 : i + 1])
    return gap[i - 1 : i + 1][order], times[i - 1 : i + 1][order]


def test_exit_times_of_brownian_motion_follow_the_reflection_principle():
    """P(not lost by T) = 2Φ(gap/(σ√2T)) − 1 for the difference of two Brownian motions, a bit larger on a grid."""
    S, gap, T, sigma, steps = 4000, 1.0, 1.0, 0.8, 400
    start = torch.tensor([[gap], [0.0]], dtype=torch.float64)
    times = np.linspace(0, T, steps + 1)
    g = torch.Generator().manual_seed(0)
    x = simulate_sde(start, (0.0, 0.0), IModel(), times, noise=sigma, samples=S, generator=g)
    kept = float(exit_times(x, times, torch.ones(1, dtype=torch.float64))[:, 0, 1].isinf().double().mean())
    shift = 0.5826 * sigma * math.sqrt(2 * T / steps)  # Broadie, Glasserman, Kou: barrier seen at discrete times
    expected = 2 * stats.norm.cdf((gap + shift) / (sigma * math.sqrt(2 * T))) - 1
    assert abs(kept - expected) < 5 * math.sqrt(expected * (1 - expected) / S)


def test_exit_times_refuse_wrong_arguments():
    with pytest.raises(ValueError, match="lost, reached"):
        exit_times(torch.ones(2, 2, 1), [0.0, 1.0], torch.ones(1), event="won")
    with pytest.raises(ValueError, match="`direction`"):
        exit_times(torch.ones(2, 2, 1), [0.0, 1.0], torch.ones(3))
    with pytest.raises(ValueError, match="increase strictly"):
        exit_times(torch.ones(2, 2, 1), [0.0, 0.0], torch.ones(1))
