"""The regime on simulated LE-SDEs, whose decay of γ is known."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from simulators import identity_blocks, le_matrix, simulate

from le_callback import SeparationMonitor
from le_callback.regime import is_converged, judge_regime, local_tail_index
from le_callback.values import Estimate

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
@pytest.mark.parametrize("sigma", [0.003, 0.03])
def test_regime_is_right_or_unknown_on_simulated_runs(name, sigma):
    """At most 5 % of 200 runs on the wrong side; with little noise at most 5 % undecided."""
    times, growth = cumulative(DECAYS[name], RUNS, sigma, seed=len(name))
    found = Counter()
    for G in growth:
        gamma = DECAYS[name](times[-1])
        index = local_tail_index(times, G)
        found[judge_regime(Estimate(gamma, 0.5 * gamma, 2 * gamma), times[-1], index).name] += 1
    assert found[name] + found["not identifiable"] >= 0.95 * RUNS, found
    assert sigma > 0.01 or found[name] >= 0.95 * RUNS, found


def test_intervals_of_the_index_cover():
    """Of 200 runs with γ ~ t^−½, 95 % intervals: fewer than 88 % covered has probability below 1e-4."""
    times, growth = cumulative(DECAYS["separating"], RUNS, 0.01, seed=1)
    intervals = [local_tail_index(times, G) for G in growth]
    assert np.mean([i.low <= 0.5 <= i.high for i in intervals]) >= 0.88


def test_little_data_is_not_identifiable():
    unknown = local_tail_index([50.0, 100.0], [0.0, 1.0])
    assert math.isnan(unknown.value)
    assert judge_regime(Estimate(1.0, 0.5, 2.0), 100.0, unknown).name == "not identifiable"
    assert math.isnan(local_tail_index([], []).value)


def test_converged_goes_before_everything():
    assert judge_regime(Estimate(-1.0, -2.0, -0.5), 100.0, Estimate(3, 2, 4), converged=True).name == "converged"
    assert judge_regime(Estimate(-1.0, -2.0, -0.5), 100.0, Estimate(0.5, 0.4, 0.6)).name == "not separating"


def test_converged_needs_separated_classes_and_a_spent_loss():
    def record(gap, factor):
        monitor, g = SeparationMonitor(num_classes=3), torch.Generator().manual_seed(0)
        for step in (1, 2):
            y = torch.arange(300) % 3
            x = gap * torch.eye(3)[y] + 0.1 * torch.randn(300, 3, generator=g)
            monitor.update(features=x, logits=factor * x, target=y)
            last = monitor.close(step)
        return last

    assert is_converged(record(1.0, 10))
    assert not is_converged(record(0.1, 100))
    assert not is_converged(SeparationMonitor(num_classes=3).close(1))
