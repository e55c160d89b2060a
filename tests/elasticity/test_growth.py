"""Local growth fits against dense generalised least squares, scipy's splines and Student's t."""

import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import CubicSpline

from le_callback.elasticity import increments
from le_callback.elasticity.growth import growth_basis, growth_channels, polynomial_basis, rate_basis
from le_callback.elasticity.increments import (
    Channels,
    ProcessHistory,
    fit,
    increment_gram,
    mixture_interval,
    no_history,
    process_grid,
    window_likelihood,
)

rng = np.random.default_rng(3)


def test_random_walk_gives_student_t_of_the_increments():
    d = rng.standard_normal(25)
    t, y = np.arange(26.0), np.concatenate([[0], np.cumsum(d)])
    channels = growth_channels(y, 0 * t, np.ones(25), polynomial_basis(t, 12.0, 1))
    estimate, _, half = mixture_interval(fit(channels, no_history(channels)), [[1.0]])
    assert estimate[0] == pytest.approx(d.mean())
    assert half[0] == pytest.approx(stats.t.ppf(0.975, 24) * d.std(ddof=1) / 5, rel=0.01)


def dense(t, r, q):
    D = np.diff(np.eye(len(t)), axis=0)
    return q * np.diag(np.diff(t)) + D @ np.diag(r) @ D.T


def test_whitened_gram_is_the_dense_one():
    t = np.cumsum(rng.uniform(0.5, 2, 12))
    r, y = rng.uniform(0.1, 2, 12), rng.standard_normal(12)
    X = np.diff(polynomial_basis(t, t[3], 2), axis=0)
    channels = Channels(np.diff(y)[None], X[None], np.diff(t)[None], r[None])
    gram, log_det = increment_gram(channels, np.array([[0.3, 2.0]]))
    columns = np.column_stack([X, np.diff(y)])
    for k, q in enumerate([0.3, 2.0]):
        T = dense(t, r, q)
        np.testing.assert_allclose(gram[0, k], columns.T @ np.linalg.solve(T, columns), rtol=1e-9)
        assert log_det[0, k] == pytest.approx(np.linalg.slogdet(T)[1])


def test_window_likelihood_is_the_density_of_the_residual_contrasts():
    t = np.arange(9.0)
    r, y = rng.uniform(0.1, 1, 9), np.cumsum(rng.standard_normal(9))
    X = np.diff(polynomial_basis(t, 4.0, 2), axis=0)
    channels = Channels(np.diff(y)[None], X[None], np.ones((1, 8)), r[None])
    log_q = np.array([-2.0, 0.0, 1.5])
    found = window_likelihood(channels, log_q)[0]
    null = np.linalg.svd(X.T)[2][2:]  # contrasts that know nothing of the trend
    expected = [
        stats.multivariate_normal(cov=null @ dense(t, r, q) @ null.T).logpdf(null @ np.diff(y)) for q in np.exp(log_q)
    ]
    np.testing.assert_allclose(np.diff(found), np.diff(expected), rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_growth_basis_is_the_integral_of_the_rate_basis(order):
    t = np.linspace(50.0, 90.0, 4001)
    rates = rate_basis((t[1:] + t[:-1]) / 2, 70.0, t, order)
    np.testing.assert_allclose(np.diff(growth_basis(t, 70.0, order), axis=0), rates * 0.01, atol=1e-7)


@pytest.mark.parametrize("power", [0.0, -1.0])
def test_constant_and_critical_rates_are_exact(power):
    t = np.arange(100.0, 141.0)
    y = np.log(t) if power == -1 else t
    channels = Channels(
        np.diff(y)[None], np.diff(growth_basis(t, 140.0, 2), axis=0)[None], np.ones((1, 40)), np.zeros((1, 41))
    )
    estimate, _, _ = mixture_interval(fit(channels, no_history(channels)), [[1.0, 0.0]])
    assert estimate[0] == pytest.approx(140.0**power, rel=1e-8)


@pytest.mark.parametrize("noise", [0.0, 1.0, 10.0])
def test_intervals_cover(noise):
    """1,500 runs: a true 95 % interval leaves 93–97 % with probability 4e-4; eight windows of history."""
    R, n = 1500, 30
    t = np.arange(n + 1.0)
    X = np.diff(polynomial_basis(t, t[-1], 2), axis=0)
    walks = [np.concatenate([np.zeros((R, 1)), rng.standard_normal((R, n)).cumsum(1)], 1) for _ in range(9)]
    levels = [0.1 * t + w + np.sqrt(noise) * rng.standard_normal((R, n + 1)) for w in walks]
    windows = [
        Channels(np.diff(y)[:, None], np.tile(X, (R, 1, 1, 1)), np.ones((R, 1, n)), np.full((R, 1, n + 1), noise))
        for y in levels
    ]
    grid = process_grid(windows[0])
    history = ProcessHistory(grid, sum(window_likelihood(w, grid) for w in windows[1:]))
    estimate, _, half = mixture_interval(fit(windows[0], history), [[1.0, 0.0]])
    assert 0.93 <= (np.abs(estimate - 0.1) <= half).mean() <= 0.97


def test_only_one_or_two_channels():
    three = Channels(np.ones((3, 8)), np.ones((3, 8, 1)), np.ones((3, 8)), np.zeros((3, 9)))
    with pytest.raises(ValueError, match="Expected argument `channels` to be 1 or 2 series, but got 3"):
        fit(three, no_history(three))


@pytest.mark.parametrize("G", [8, 23, 44])
def test_refinement_is_the_cubic_spline(G):
    values = np.random.default_rng(G).normal(size=(3, G))
    grid = np.linspace(-7.0, 12.0, G)
    expected = CubicSpline(grid, values, axis=-1)(np.linspace(grid[0], grid[-1], 8 * G))
    np.testing.assert_allclose(values @ increments._spline(G), expected, rtol=0, atol=1e-12)
