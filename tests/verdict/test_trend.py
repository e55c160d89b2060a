"""Slopes against a slow double sum, coverage on autocorrelated noise, and spans that leave changes behind."""

import math

import numpy as np
import pytest
from scipy import stats

from le_callback.verdict.trend import LEAST, SPANS, critical_value, lags, longest_line, newey_west, slope


def slow_slope(times, values, confidence):
    """Newey and West by explicit sums over all pairs of points, with Kiefer and Vogelsang's critical value."""
    n = len(times)
    fit = stats.linregress(times, values)
    u = [y - fit.intercept - fit.slope * t for t, y in zip(times, values, strict=True)]
    s = [(t - np.mean(times)) * e for t, e in zip(times, u, strict=True)]
    L = lags(n)
    total = sum(s[i] * s[j] * max(0.0, 1 - abs(i - j) / (L + 1)) for i in range(n) for j in range(n))
    total = max(total, sum(x * x for x in s))
    b = (L + 1) / n
    cv = stats.t.ppf(0.5 + confidence / 2, n - 2) * (1.96 + 2.9694 * b + 0.4160 * b**2 - 0.5324 * b**3) / 1.96
    half = cv * math.sqrt(total * n / (n - 2)) / sum((t - np.mean(times)) ** 2 for t in times)
    return fit.slope, fit.slope - half, fit.slope + half


@pytest.mark.parametrize("n", [4, 5, 8, 14, 20])
@pytest.mark.parametrize("seed", range(3))
def test_slope_is_that_of_the_slow_sums(n, seed):
    rng = np.random.default_rng(seed)
    times, values = np.sort(rng.uniform(0, 9, n)), rng.standard_normal(n).cumsum()
    found = slope(times, values, 0.9)
    np.testing.assert_allclose((found.value, found.low, found.high), slow_slope(times, values, 0.9), rtol=1e-4)


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize(("rho", "least"), [(0.0, 0.95), (0.3, 0.925), (0.6, 0.85)])
def test_intervals_cover_in_noise_that_is_alike_from_window_to_window(n, rho, least):
    """800 series of AR(1) noise: the share that covers 0 has a standard error below 0.013."""
    rng = np.random.default_rng(n)
    noise = rng.standard_normal((800, n + 50))
    for i in range(1, n + 50):
        noise[:, i] += rho * noise[:, i - 1]
    found = [slope(np.arange(n), row) for row in noise[:, -n:]]
    assert np.mean([e.low <= 0 <= e.high for e in found]) >= least


def test_scores_that_alternate_give_no_negative_variance():
    assert newey_west(np.array([1.0, -1.0, 1.0, -1.0]), 3) >= 0
    assert newey_west(np.array([1.0, 2.0]), 0) == 5


def test_critical_values_are_wider_than_those_of_independent_residuals():
    for n in SPANS:
        assert critical_value(n, 0.95) > stats.t.ppf(0.975, n - 2)


def test_too_little_is_unknown():
    assert math.isnan(slope(np.arange(LEAST - 1), np.zeros(LEAST - 1)).value)
    assert math.isnan(slope(np.ones(9), np.arange(9.0)).value)
    assert longest_line(np.arange(3.0), np.arange(3.0))[1] == 0


def test_the_span_is_the_longest_over_which_the_slope_is_one():
    t, rng = np.arange(20.0), np.random.default_rng(0)
    spans = [longest_line(t, 0.1 * t + 0.05 * rng.standard_normal(20))[1] for _ in range(50)]
    assert np.median(spans) == 20
    noise = 0.05 * rng.standard_normal(20)
    bent, points = longest_line(t, np.where(t < 12, t, 24 - t) + noise)
    assert points <= 10
    assert bent.high < 0


def test_newey_west_against_its_sum():
    rng = np.random.default_rng(5)
    for n, most in ((4, 1), (9, 3), (20, 5), (3, 5)):
        s = rng.normal(size=n)
        lagged = sum(
            (1 - j / (most + 1)) * sum(s[i] * s[i - j] for i in range(j, n)) for j in range(1, min(most, n - 1) + 1)
        )
        assert newey_west(s, most) == pytest.approx(max(sum(x * x for x in s) + 2 * lagged, 0.0))
