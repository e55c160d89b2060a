"""The regime on simulated LE-SDEs, whose decay of γ is known."""

import math
from collections import Counter

import numpy as np
import pytest
from simulators import identity_blocks, le_matrix, simulate

from le_callback.records import Estimate
from le_callback.regime import judge_regime, local_tail_index

K, P, WINDOW, STEPS, RUNS = 3, 4, 50, 10_000, 200
DECAYS = {
    "separating": lambda t: 0.08 * t**-0.5,
    "critical": lambda t: 0.5 * math.log(t) / t,
    "not separating": lambda t: 60 * t**-1.5,
}


def cumulative(gamma, runs, sigma, seed):
    """G of ``runs`` simulated LE-SDEs at every window, from the norm of the difference mode of their class means."""
    rng = np.random.default_rng(seed)
    start = rng.standard_normal((K, P))
    times = np.arange(WINDOW, STEPS + 1, WINDOW, dtype=float)
    means = simulate(
        lambda t: le_matrix(gamma(t), 0.0, K), np.full((K, K), 1 / K), identity_blocks(K, P), start, times,
        sigma=sigma, runs=runs, rng=rng, substeps=1,
    )  # fmt: skip
    means = means + 0.02 * rng.standard_normal(means.shape)  # sampling noise of a window
    amplitude = np.linalg.norm(means - means.mean(2, keepdims=True), axis=(2, 3))
    return times, K * np.log(amplitude / amplitude[:, :1])


@pytest.mark.parametrize("name", list(DECAYS))
@pytest.mark.parametrize("sigma", [0.0005, 0.003])
def test_regime_is_right_or_unknown_on_simulated_runs(name, sigma):
    """At most 5 % of 200 runs on the wrong side, and with little noise at most half of them undecided."""
    times, growth = cumulative(DECAYS[name], RUNS, sigma, seed=hash(name) % 1000 if False else len(name))
    found = Counter()
    for G in growth:
        gamma = DECAYS[name](times[-1])
        index = local_tail_index(times, G)
        found[judge_regime(Estimate(gamma, 0.5 * gamma, 2 * gamma), times[-1], index).name] += 1
    print(name, sigma, dict(found))
    assert found[name] + found["not identifiable"] >= 0.95 * RUNS
