"""The regime on simulated LE-SDEs, whose decay of γ is known."""

import math
from collections import Counter

import pytest
import torch
from simulators import simulated_growth

from le_callback import SeparationMonitor
from le_callback.elasticity.tail_index import local_tail_index
from le_callback.regime import is_converged, judge_regime
from le_callback.values import Estimate

RUNS = 200
DECAYS = {
    "separating": lambda t: 0.08 * t**-0.5,
    "critical": lambda t: 0.5 * math.log(t) / t,
    "not separating": lambda t: 60 * t**-1.5,
}


@pytest.mark.parametrize("name", list(DECAYS))
@pytest.mark.parametrize("sigma", [0.003, 0.03])
def test_regime_is_right_or_unknown_on_simulated_runs(name, sigma):
    """At most 5 % of 200 runs on the wrong side; with little noise at most 5 % undecided."""
    times, growth = simulated_growth(DECAYS[name], RUNS, sigma, seed=len(name))
    found = Counter()
    for G in growth:
        gamma = DECAYS[name](times[-1])
        index = local_tail_index(times, G)
        found[judge_regime(Estimate(gamma, 0.5 * gamma, 2 * gamma), times[-1], index).name] += 1
    assert found[name] + found["not identifiable"] >= 0.95 * RUNS, found
    assert sigma > 0.01 or found[name] >= 0.95 * RUNS, found


def test_little_data_is_not_identifiable():
    unknown = local_tail_index([50.0, 100.0], [0.0, 1.0])
    assert math.isnan(unknown.value)
    assert judge_regime(Estimate(1.0, 0.5, 2.0), 100.0, unknown).name == "not identifiable"


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
