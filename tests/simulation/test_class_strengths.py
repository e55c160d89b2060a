"""Class-wise strengths: planted ones are found again, and what the fit cannot know it does not invent."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from le_callback import DirectionModel, IModel, LModel
from le_callback.simulation import ClassStrengths, fit_class_strengths, relative_difference, simulate_ode


def planted(seed, K, windows):
    """Strengths of windows of 10 steps, and a start that the L-model sees in every coordinate."""
    rng = np.random.default_rng(seed)
    strengths = ClassStrengths(
        10.0 * np.arange(windows + 1), rng.uniform(0.02, 0.2, (windows, K)) * K, rng.uniform(-0.1, 0, windows)
    )
    return strengths, np.eye(K) + 0.1 * rng.normal(size=(K, K)), np.arange(0, 10 * windows + 1, 2.0)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**20), K=st.integers(3, 5), windows=st.integers(1, 3))
def test_planted_strengths_are_recovered(seed, K, windows):
    strengths, x0, t = planted(seed, K, windows)
    genuine = simulate_ode(x0, strengths, LModel(), t)
    found = fit_class_strengths(genuine, t, window=5)
    np.testing.assert_allclose(found.edges, strengths.edges)
    np.testing.assert_allclose(found.alpha, strengths.alpha, rtol=0.02, atol=2e-3)
    np.testing.assert_allclose(found.beta, strengths.beta, rtol=0.02, atol=2e-3)
    assert relative_difference(genuine, simulate_ode(x0, found, LModel(), t)).max() < 2e-3


@pytest.mark.parametrize("model", [IModel(), LModel(), DirectionModel(torch.eye(3)[:, :2] - 0.3 + torch.ones(3, 2))])
def test_the_simulation_is_the_differential_equation(model):
    strengths = ClassStrengths(
        np.array([0.0, 3.0, 8.0]), np.array([[0.5, 0.2, 0.1], [0.1, 0.3, 0.0]]), np.array([-0.1, 0.2])
    )
    p = 2 if isinstance(model, DirectionModel) else 3
    x0 = np.random.default_rng(0).normal(size=(3, p))

    def drift(t, z):
        x, E = torch.from_numpy(z.reshape(3, p)), torch.from_numpy(strengths(t))
        pulls = [(E[k] / 3).unsqueeze(1) * model.pulls(x, k) for k in range(3)]
        return torch.stack([pull.sum(0) for pull in pulls]).numpy().ravel()

    first = solve_ivp(drift, (0, 3 - 1e-12), x0.ravel(), rtol=1e-11, atol=1e-12).y[:, -1]
    last = solve_ivp(drift, (3, 8), first, rtol=1e-11, atol=1e-12).y[:, -1]
    found = simulate_ode(x0, strengths, model, [0.0, 1.0, 3.0, 8.0])
    np.testing.assert_allclose(found[-1].numpy().ravel(), last, rtol=1e-7)


def test_classes_that_grow_alike_get_one_strength():
    t = np.linspace(0, 20, 41)
    genuine = simulate_ode(np.array([[1.0, 0.2, 0.0], [0.0, 0.8, 0.1], [0.1, 0.0, 1.3]]), (0.3, -0.05), LModel(), t)
    found = fit_class_strengths(genuine, t, window=20)
    np.testing.assert_allclose(found.alpha, 0.3, atol=1e-3)
    np.testing.assert_allclose(found.beta, -0.05, atol=1e-3)


def test_unequal_classes_are_imitated_better_than_by_one_strength():
    """One α for classes that grow at 1, 2 and 3 leaves a fifth of the means, the class-wise fit a thousandth."""
    t = np.linspace(0, 20, 41)
    genuine = simulate_ode(np.eye(3) - 1 / 3, np.diag([0.1, 0.2, 0.3]), LModel(), t)
    own = simulate_ode(genuine[0], fit_class_strengths(genuine, t), LModel(), t)
    mean = simulate_ode(genuine[0], (0.2, 0.0), LModel(), t)
    assert relative_difference(genuine, own)[1:].mean() < 1e-3
    assert relative_difference(genuine, mean)[1:].mean() > 0.2


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**20), K=st.integers(3, 5))
def test_shared_strengths_are_recovered_in_windows(seed, K):
    rng = np.random.default_rng(seed)
    alpha, beta = K * rng.uniform(0.02, 0.2, 2), rng.uniform(-0.1, 0, 2)
    strengths = ClassStrengths(np.array([0.0, 10.0, 20.0]), np.repeat(alpha[:, None], K, axis=1), beta)
    t = np.arange(0, 21, 2.0)
    genuine = simulate_ode(np.eye(K) + 0.3 * rng.normal(size=(K, K)), strengths, LModel(), t)
    found = fit_class_strengths(genuine, t, window=5, shared=True)
    assert np.ptp(found.alpha, axis=1).max() == 0
    np.testing.assert_allclose(found.alpha[:, 0], alpha, rtol=0.02, atol=2e-3)
    np.testing.assert_allclose(found.beta, beta, rtol=0.02, atol=2e-3)


def test_in_a_symmetric_pattern_only_the_difference_is_known():
    """All y_k equal: only α − β acts. The fit finds it, and leaves the rest near zero instead of anywhere."""
    t = np.linspace(0, 20, 41)
    found = fit_class_strengths(simulate_ode(np.eye(3), (0.3, -0.05), LModel(), t), t, window=20)
    np.testing.assert_allclose(found.alpha - found.beta[:, None], 0.35, atol=1e-3)
    assert np.abs(found.alpha).max() < 0.35


def test_two_classes_have_more_strengths_than_coordinates_and_still_fit():
    t = np.linspace(0, 20, 41)
    genuine = simulate_ode(np.array([[1.0, 0.0], [0.1, 1.0]]), (0.4, -0.1), LModel(), t)
    found = fit_class_strengths(genuine, t, window=20)
    assert np.abs(found.alpha).max() < 2
    score = relative_difference(genuine, simulate_ode(genuine[0], found, LModel(), t))
    assert score[[20, 40]].max() < 1e-4  # the ends of the windows


@pytest.mark.parametrize(
    ("x", "times", "window", "message"),
    [
        (np.ones((3, 2)), [0.0, 1.0, 2.0], 12, "`x`"),
        (np.full((2, 2, 2), np.nan), [0.0, 1.0], 12, "`x`"),
        (np.ones((2, 2, 2)), [0.0, 1.0], 0, "`window`"),
        (np.ones((2, 2, 2)), [1.0, 0.0], 12, "`times` to be finite and strictly increasing"),
    ],
)
def test_wrong_arguments_are_named(x, times, window, message):
    with pytest.raises(ValueError, match=message):
        fit_class_strengths(x, times, window=window)
