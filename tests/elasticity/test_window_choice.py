"""Default windows: fine where class means carry no noise, the paper's where they do."""

import numpy as np
import pytest
import simulators
from problems import problem, relative

from le_callback import estimate_coefficients
from le_callback.elasticity.amplitudes import ModePair, norm_series
from le_callback.elasticity.window_choice import choose_window

RATES = {
    "constant": (lambda t: 0.03 + 0 * t, lambda t: -0.01 + 0 * t),
    "root": (lambda t: 0.3 * t**-0.5, lambda t: -0.05 * t**-0.5),
    "inverse": (lambda t: 1 / t, lambda t: -0.2 / t),
    "oscillating": (lambda t: 0.03 + 0.015 * np.sin(t / 30), lambda t: -0.01 + 0 * t),
}


def path(name, rates, t, sigma=0.0, seed=0):
    alpha, beta = RATES[rates]
    model, blocks, start = problem(name, 3)
    options = {"sigma": sigma, "rng": np.random.default_rng(seed)} if sigma else {"substeps": 20}
    P = np.full((3, 3), 1 / 3)
    return model, simulators.simulate(
        lambda s: simulators.le_matrix(alpha(s), beta(s), 3), P, blocks, start, t, **options
    )[0]


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("name", ["I", "L"])
@pytest.mark.parametrize(("first", "count"), [(10, 41), (10, 200), (100, 41), (100, 120)])
def test_noise_free_coefficients_by_default_arguments(name, rates, first, count):
    t = first + np.arange(float(count))
    model, means = path(name, rates, t)
    found = estimate_coefficients(means, t, model=model)
    for rate, truth in zip(("alpha", "beta"), RATES[rates], strict=True):
        assert relative(getattr(found, rate), truth(t)) < 1e-3, rate
        assert np.abs(getattr(found, rate) / truth(t) - 1).max() < 1e-3, rate


def test_float32_means_by_default_arguments():
    """Rounding is noise: the long window is kept, whose error on these rates is 4e-3."""
    t = 100 + np.arange(120.0)
    model, means = path("I", "root", t)
    found = estimate_coefficients(means.astype(np.float32)[::-1][::-1], t.tolist(), model=model)
    assert np.abs(found.alpha / RATES["root"][0](t) - 1).max() < 5e-3


def test_the_regression_takes_a_third_function():
    t = 100 + np.arange(120.0)
    model, means = path("I", "root", t)
    found = estimate_coefficients(means, t, model=model, method="regression")
    assert np.abs(found.alpha / RATES["root"][0](t) - 1).max() < 1e-3


def modes(means):
    common = means.mean(1, keepdims=True)
    return ModePair(*(norm_series(part, np.zeros(len(means)), part[0].size) for part in (common, means - common)))


@pytest.mark.parametrize("rates", RATES)
def test_noise_keeps_the_long_window(rates):
    """100 noisy runs: one more function takes about 1/51 of the residuals, never three quarters of them."""
    t = 100 + np.arange(120.0)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        _, means = path("I", rates, t, sigma=0.02, seed=seed)
        assert choose_window(modes(means), t) == (51, 2)
        assert choose_window(modes(means + 0.05 * rng.standard_normal(means.shape)), t) == (51, 2)


def test_what_is_given_is_kept():
    t = 100 + np.arange(120.0)
    _, means = path("I", "oscillating", t)
    assert choose_window(modes(means), t, window=21)[0] == 21
    window, order = choose_window(modes(means), t, order=2)
    assert (window < 51, order) == (True, 2)
    assert choose_window(modes(means), t, window=21, order=2) == (21, 2)
    assert choose_window(modes(means[:20]), t[:20], order=2, finer=()) == (20, 2)
