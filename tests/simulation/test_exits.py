"""Exit times against a slow search and the reflection principle; fixed seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from le_callback import IModel
from le_callback.simulation import exit_times, simulate_sde


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
    with pytest.raises(ValueError, match="strictly increasing"):
        exit_times(torch.ones(2, 2, 1), [0.0, 0.0], torch.ones(1))
