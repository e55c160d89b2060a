"""The bank of filters against dense Gaussian conditioning, the mixtures against root finding."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from le_callback.elasticity import rate_filters
from le_callback.elasticity.cumulative import Cumulative
from le_callback.elasticity.mixtures import Mixtures, largest, likeliest
from le_callback.elasticity.rate_filters import PathReading, RateFilters


def one_model(monkeypatch, rho, q, kappa, tau, decay, s):
    """Only this grid point and this scale."""
    for name, value in zip(("_RHO", "_Q", "_KAPPA", "_TAU", "_DECAY"), (rho, q, kappa, tau, decay), strict=True):
        monkeypatch.setattr(rate_filters, name, np.array([value]))
    monkeypatch.setattr(rate_filters, "GRID", np.array([[rho], [q], [kappa], [tau], [decay]]))
    monkeypatch.setattr(rate_filters, "SCALES", (s,))


def conditioned(levels, noises, rho, q, kappa, tau, s):
    """Mean and deviation of the last rate given all levels, by the joint covariance of everything (Δ = 1)."""
    n = len(levels)  # levels[0] = 0 at the start
    # unknowns: y_0, g_0, then for each window the walk w_i, and (a_i, b_i), what the drift adds to level and rate
    size = 2 + 3 * (n - 1)
    prior = np.zeros((size, size))
    prior[0, 0], prior[1, 1] = 1e6, s**2
    y, g = np.zeros((n, size)), np.zeros((n, size))
    y[0, 0] = g[0, 1] = 1
    for i in range(1, n):
        at = 2 + 3 * (i - 1)
        prior[at, at] = rho * noises[i] + q**2
        prior[at + 1 : at + 3, at + 1 : at + 3] = tau**2 * np.array([[1 / 3, 1 / 2], [1 / 2, 1]])
        y[i], g[i] = y[i - 1] + g[i - 1], g[i - 1].copy()
        y[i, at] += 1
        y[i, at + 1] += 1
        g[i, at + 2] += 1
    covariance = y @ prior @ y.T + kappa * np.diag(noises)
    gain = g[-1] @ prior @ y.T @ np.linalg.inv(covariance)
    return gain @ levels, np.sqrt(g[-1] @ prior @ g[-1] - gain @ y @ prior @ g[-1])


@pytest.mark.parametrize("tau", [0.0, 0.02])
def test_one_filter_is_gaussian_conditioning(monkeypatch, tau):
    rng = np.random.default_rng(0)
    rho, q, kappa, s = 0.7, 0.01, 0.8, 0.3
    one_model(monkeypatch, rho, q, kappa, tau, 0.0, s)
    monkeypatch.setattr(rate_filters, "_TRUST", 1e9)  # no widening
    filters = RateFilters(1, hazard=1e-12)
    noises = rng.uniform(0.001, 0.003, 12)
    levels = np.concatenate([[0.0], np.cumsum(0.1 + 0.05 * rng.standard_normal(11))])
    for i in range(1, 12):
        start = noises[0] if i == 1 else None
        found = filters.update({0: PathReading(i + 100.0, 1.0, levels[i], noises[i], start=start)})
    mean, deviation = conditioned(levels, noises, rho, q, kappa, tau, s)
    assert found.mean()[0] == pytest.approx(mean, rel=1e-4)
    low, high = found.quantiles(0.025, 0.975)[:, 0]
    assert (high - low) / 2 == pytest.approx(1.959964 * deviation, rel=1e-3)


def test_a_decaying_rate_is_followed(monkeypatch):
    """Noise-free ∫t^−½: the filter that knows this decay predicts every level."""
    one_model(monkeypatch, 0.01, 0.0, 1.0, 0.0, 0.5, 0.3)
    filters = RateFilters(1, hazard=1e-12)
    t = np.arange(20.0, 60.0)
    for i in range(1, len(t)):
        level = 2 * (np.sqrt(t[i]) - np.sqrt(t[0]))
        found = filters.update({0: PathReading(t[i], 1.0, level, 1e-12, start=1e-12 if i == 1 else None)})
    assert found.mean()[0] == pytest.approx(t[-1] ** -0.5, rel=1e-3)


def test_channels_do_not_know_of_each_other():
    """The same readings in a bank of three, where the others come and go, and alone: the same to rounding."""
    rng = np.random.default_rng(1)
    levels = np.cumsum(0.05 + 0.01 * rng.standard_normal(20))
    alone, bank = RateFilters(1, 0.05), RateFilters(3, 0.05)
    for i, level in enumerate(levels):
        reading = PathReading(i + 1.0, 1.0, level, 1e-4, start=1e-4 if i == 0 else None)
        other = PathReading(i + 1.0, 1.0, -level, 1e-3, start=1e-3 if i < 2 else None)
        one = alone.update({0: reading})
        several = bank.update({0: other, 1: reading, 2: other} if i % 2 else {1: reading, 2: other})
        at = 1 if i % 2 else 0
        assert several.mean()[at] == pytest.approx(one.mean()[0], rel=1e-9)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 50.0])
def test_the_unit_of_time_does_not_matter(unit):
    rng = np.random.default_rng(2)
    levels = np.cumsum(0.05 + 0.01 * rng.standard_normal(20))
    found = []
    for scale in (1.0, unit):
        filters = RateFilters(1, 0.05)
        for i, level in enumerate(levels):
            start = 1e-4 if i == 0 else None
            known = filters.update({0: PathReading((i + 1) * scale, scale, level, 1e-4, start=start)})
        found.append(known.mean()[0] * scale)
    assert found[0] == pytest.approx(found[1], rel=1e-9)


def test_rounding_does_not_grow():
    """Readings that differ in the last digits, as those of two processes and of one do, give the same ends."""
    ends = []
    for eps in (0.0, 1e-13):
        rng, rounding = np.random.default_rng(7), np.random.default_rng(8)
        levels = np.cumsum(0.05 + 0.03 * rng.standard_normal(25)) * (1 + eps * rounding.standard_normal(25))
        filters = RateFilters(1, 0.05)
        for i, level in enumerate(levels):
            start = 1e-4 if i == 0 else None
            known = filters.update({0: PathReading(i + 1.0, 1.0, level, 1e-4, start=start)})
            ends.append(known.quantiles(0.025, 0.975)[:, 0])
    one, other = np.array(ends[:25]), np.array(ends[25:])
    assert np.abs(one - other).max() < 1e-9 * (one[:, 1] - one[:, 0]).min()


def test_readings_far_off_leave_no_point_of_the_grid_behind():
    """Noise of 1e-12 and jumps of 10: shares underflow, and what comes after is followed all the same."""
    filters = RateFilters(1, 0.05)
    for i in range(60):
        level = 0.05 * i + 10 * (i >= 20) - 10 * (i >= 25)
        known = filters.update({0: PathReading(i + 1.0, 1.0, level, 1e-12, start=1e-12 if i == 0 else None)})
        assert np.isfinite(known.quantiles(0.025, 0.975)).all()
    low, high = known.quantiles(0.025, 0.975)[:, 0]
    assert low < 0.05 < high
    assert np.isfinite(filters._state["log_weight"]).all()


def test_state_is_exact():
    rng = np.random.default_rng(3)
    levels = np.cumsum(0.05 + 0.01 * rng.standard_normal(20))
    whole, first = RateFilters(2, 0.05), RateFilters(2, 0.05)
    for i, level in enumerate(levels):
        reading = PathReading(i + 1.0, 1.0, level, 1e-4, start=1e-4 if i == 0 else None)
        expected = whole.update({0: reading, 1: reading})
        second = RateFilters(2, 0.05)
        second.load_state_dict(first.state_dict(), [(0, 0), (1, 1)])
        found, first = second.update({0: reading, 1: reading}), second
        assert torch.equal(torch.from_numpy(found.means), torch.from_numpy(expected.means))


def test_quantiles_by_root_finding():
    rng = np.random.default_rng(4)
    weights = rng.dirichlet(np.ones(40), 5)
    mixtures = Mixtures(weights, rng.standard_normal((5, 40)), rng.uniform(0.01, 2.0, (5, 40)))
    for p, row in zip((0.025, 0.5, 0.975), mixtures.quantiles(0.025, 0.5, 0.975), strict=True):
        for i, x in enumerate(row):
            w, m, s = weights[i], mixtures.means[i], mixtures.deviations[i]
            exact = brentq(lambda z, w=w, m=m, s=s, p=p: w @ norm.cdf(z, m, s) - p, -20, 20)
            assert x == pytest.approx(exact, abs=1e-6)


def test_the_rest_of_a_mixture_keeps_its_moments():
    rng = np.random.default_rng(5)
    weights, means, variances = (
        rng.dirichlet(np.ones(200), 2),
        rng.standard_normal((2, 200)),
        rng.uniform(0.1, 1, (2, 200)),
    )
    few = likeliest(weights, means, variances, largest(weights, 20))
    mean = (weights * means).sum(1)
    assert few.weights.shape == (2, 21)
    assert few.mean() == pytest.approx(mean)
    second = (few.weights * (few.deviations**2 + few.means**2)).sum(1)
    assert second == pytest.approx((weights * (variances + means**2)).sum(1))


@pytest.mark.parametrize("weights", [(0.757, 0.243), (0.3, 0.7)])
def test_growth_whose_wandering_is_not_known(weights):
    """The interval of A, B and G is that of the mixture of what the grid says, to 5 %; a normal one is 7 % short."""
    filters = RateFilters(1, 0.05)
    filters._grid[0, 0], filters._grid[0, -1] = weights
    filters.wandered[0, 0], filters.wandered[0, -1] = 0.1, 1.0
    growth = Cumulative()
    growth.variance, growth.fourth = filters.growth_cumulants(0, 0.0, None)
    deviations = np.sqrt([0.1, 1.0])
    exact = brentq(lambda x: np.dot(weights, norm.cdf(x / deviations)) - 0.975, 0, 9)
    assert growth.half_width(0.95) == pytest.approx(exact, rel=0.05)
    assert 1.96 * np.sqrt(growth.variance) < 0.935 * exact
