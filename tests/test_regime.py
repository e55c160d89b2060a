"""The regime on simulated LE-SDEs, whose decay of γ is known."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from simulators import simulated_growth
from windows import with_measure, without_measure

from le_callback import SeparationMonitor
from le_callback.elasticity import local_tail_index
from le_callback.measures import NearestMean
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
    times, *growth = simulated_growth(DECAYS[name], RUNS, sigma, seed=len(name))
    found = Counter()
    for run in zip(*growth, strict=True):
        gamma = DECAYS[name](times[-1])
        index = local_tail_index(times, *run)
        found[judge_regime(Estimate(gamma, 0.5 * gamma, 2 * gamma), times[-1], index).name] += 1
    assert found[name] + found["not identifiable"] >= 0.95 * RUNS, found
    assert sigma > 0.01 or found[name] >= 0.95 * RUNS, found


def test_little_data_is_not_identifiable():
    unknown = local_tail_index([50.0, 100.0], [0.0, 1.0], [0.0, 0.0])
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


SEPARATING, CRITICAL, NOT, UNKNOWN = "separating", "critical", "not separating", "not identifiable"
SLOWLY, FAST = "γ decays more slowly than 1/t", "γ decays faster than 1/t"
LIKE, DIMLY = "γ decays like 1/t", "the decay of γ is not known well enough"


@pytest.mark.parametrize(
    ("low", "high", "name", "reason"),
    [
        (0.10, 0.84, SEPARATING, SLOWLY),
        (0.10, 0.86, UNKNOWN, DIMLY),
        (0.70, 0.84, SEPARATING, SLOWLY),
        (0.70, 0.85, CRITICAL, LIKE),  # the band has its ends
        (0.70, 0.86, CRITICAL, LIKE),
        (1.16, 1.30, NOT, FAST),
        (1.15, 1.30, CRITICAL, LIKE),
        (1.14, 1.30, CRITICAL, LIKE),
        (1.16, 3.00, NOT, FAST),
        (1.14, 3.00, UNKNOWN, DIMLY),
        (0.61, 1.39, CRITICAL, LIKE),
        (0.59, 1.39, UNKNOWN, DIMLY),
        (0.61, 1.41, UNKNOWN, DIMLY),
        (0.60, 1.39, UNKNOWN, DIMLY),
        (0.61, 1.40, UNKNOWN, DIMLY),
        (0.20, 2.00, UNKNOWN, DIMLY),
    ],
)
def test_sides_of_the_critical_band(low, high, name, reason):
    """Within 1 ± 0.15 is no clear side; within 1 ± 0.4 it is critical, and wider nothing is known."""
    index = Estimate((low + high) / 2, low, high)
    regime = judge_regime(Estimate(0.02, 0.01, 0.03), 500.0, index)
    known = f"tail index {index.value:.2f} [{low:.2f}, {high:.2f}], t·γ = 10"
    assert (regime.name, regime.reason) == (name, f"{reason}: {known}")
    assert (regime.t_gamma, regime.index) == (10.0, index)


@pytest.mark.parametrize(("high", "name"), [(-1e-12, "not separating"), (0.0, "separating"), (1e-12, "separating")])
def test_gamma_below_zero_goes_before_the_index(high, name):
    regime = judge_regime(Estimate(-0.02, -0.03, high), 500.0, Estimate(0.5, 0.4, 0.6))
    assert regime.name == name
    assert regime.reason.endswith("tail index 0.50 [0.40, 0.60], t·γ = -10")
    assert regime.reason.startswith("γ is below zero with its whole interval; ") is (name == "not separating")
    assert regime.t_gamma == -10.0


def test_an_unknown_index_goes_before_gamma_and_convergence_before_both():
    below, unknown = Estimate(-0.02, -0.03, -0.01), Estimate.unknown()
    regime = judge_regime(below, 500.0, unknown)
    assert (regime.name, regime.index) == ("not identifiable", unknown)
    assert regime.reason == "too few windows in which the gap stands out of the noise"
    assert math.isnan(regime.t_gamma)
    converged = judge_regime(below, 500.0, unknown, converged=True)
    assert (converged.name, converged.t_gamma, converged.index) == ("converged", -10.0, unknown)
    assert converged.reason == "the classes are separated and the loss is nearly spent"


@pytest.fixture(scope="module")
def measured():
    """A record with a head and coefficients of two models."""
    monitor, g = SeparationMonitor(num_classes=2), torch.Generator().manual_seed(0)
    for step in (1, 2, 3):
        y = torch.arange(40) % 2
        x = torch.eye(2)[y] + 0.1 * torch.randn(40, 2, generator=g)
        monitor.update(features=x, logits=x, target=y)
        record = monitor.close(step)
    return record


def described(record, head=(1000, 990), nearest=(0.95,), psi=0.09, lows=(1.0,)):
    """The record with given hits of 1000 samples, accuracies, ‖Ψ‖ and lower bounds of γ."""
    tried, hits = head
    counts = {"tried": np.array([0.0, tried]), "hits": np.array([0.0, hits])}
    coefficients = next(iter(record.coefficients.values()))
    record = with_measure(record, "head", "logits", **counts)
    record = with_measure(record, "effective_training", "logits", psi=psi)
    accuracies = {str(i): NearestMean((0,), np.array([1.0]), np.array([a])) for i, a in enumerate(nearest)}
    gammas = {str(i): replace(coefficients, gamma=Estimate(low + 1, low, low + 2)) for i, low in enumerate(lows)}
    return replace(record, measures={**record.measures, "nearest_mean": accuracies}, coefficients=gammas)


@pytest.mark.parametrize(
    ("facts", "converged"),
    [
        ({}, True),
        ({"head": (1000, 989)}, False),
        ({"head": (1000, 991)}, True),
        ({"head": (0, 0)}, False),
        ({"nearest": (0.949,)}, False),
        ({"nearest": (0.5, 0.96)}, True),  # features or logits
        ({"nearest": (math.nan, 0.96)}, True),
        ({"nearest": (math.nan,)}, False),
        ({"nearest": ()}, False),
        ({"psi": 0.0999}, True),
        ({"psi": 0.1}, False),
        ({"psi": 0.11}, False),
        ({"psi": 0.11, "lows": (0.0,)}, True),
        ({"psi": 0.11, "lows": (1e-9,)}, False),
        ({"psi": 0.11, "lows": (1.0, -0.1)}, True),  # of any model
        ({"psi": 0.11, "lows": ()}, False),
        ({"head": (1000, 989), "lows": (-1.0,)}, False),  # unclear γ alone is not enough
        ({"nearest": (0.949,), "lows": (-1.0,)}, False),
    ],
)
def test_each_condition_of_convergence(measured, facts, converged):
    assert bool(is_converged(described(measured, **facts))) is converged


def test_without_a_head_nothing_converges(measured):
    assert not is_converged(without_measure(described(measured), "head"))
    assert not is_converged(without_measure(described(measured), "effective_training"))
