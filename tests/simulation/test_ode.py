"""The LE-ODE against the independent simulator, closed forms and scipy; random starts, fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest
import simulators
import torch
from problems import TIMES, alpha, beta, problem, relative
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from le_callback import DirectionModel, IModel, LModel, estimate_coefficients, estimate_le_matrix
from le_callback.similarity import GeneralModel
from le_callback.simulation import LEIntegrals, simulate_ode


def by_scipy(rate, start, times):
    """Adaptive integration of dx/dt = rate(t) on the stacked vector, to 1e-12."""

    def slope(t, x):
        M, R = rate(t)
        return M @ x + R

    found = solve_ivp(slope, (times[0], times[-1]), start.ravel(), "DOP853", times, rtol=1e-12, atol=1e-12)
    return found.y.T.reshape(len(times), *start.shape)


@pytest.mark.parametrize("K", [2, 3, 10])
@pytest.mark.parametrize("name", ["I", "L", "simplex"])
def test_modes_equal_exponential_and_integration_of_the_full_drift(name, K):
    model, blocks, start = problem(name, K)
    P = np.full((K, K), 1 / K)
    modes = simulate_ode(start, (alpha, beta), model, TIMES, method="modes")
    fine = simulate_ode(start, (alpha, beta), model, TIMES, method="exponential", substeps=60)
    full = by_scipy(
        lambda t: (simulators.drift(simulators.le_matrix(alpha(t), beta(t), K), P, blocks), 0.0), start, TIMES
    )
    assert relative(modes, full) < 1e-9
    assert relative(fine, full) < 1e-8


@pytest.mark.parametrize("K", [2, 3, 10])
@pytest.mark.parametrize("name", ["I", "L", "simplex", "direction"])
def test_constant_coefficients_equal_one_matrix_exponential(name, K):
    model, blocks, start = problem(name, K)
    M = simulators.drift(simulators.le_matrix(0.3, -0.1, K), np.full((K, K), 1 / K), blocks)
    expected = [(expm((t - TIMES[0]) * M) @ start.ravel()).reshape(start.shape) for t in TIMES]
    for method in ("auto", "exponential"):
        assert relative(simulate_ode(start, (0.3, -0.1), model, TIMES, method=method), np.stack(expected)) < 1e-11


@pytest.mark.parametrize("name", ["I", "direction"])
def test_time_varying_general_matrix_is_of_fourth_order(name):
    K = 3
    model, blocks, start = problem(name, K)
    rng = np.random.default_rng(1)
    E0, E1 = rng.standard_normal((2, K, K))
    P = np.tile([0.5, 0.3, 0.2], (K, 1))

    def matrix(t):
        return 0.3 * E0 * np.cos(t / 4) + 0.2 * E1

    times = np.array([0.0, 8.0])
    exact = by_scipy(lambda t: (simulators.drift(matrix(t), P, blocks), 0.0), start, times)
    errors = [
        relative(simulate_ode(start, matrix, model, times, priors=np.array([5, 3, 2]), substeps=n), exact)
        for n in (32, 64, 128)
    ]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.allclose(orders, 4, atol=0.15)
    assert errors[-1] < 1e-7


@pytest.mark.parametrize("name", ["I", "direction"])
def test_two_numbers_under_imbalance_need_the_exponential(name):
    K = 3
    model, blocks, start = problem(name, K)
    P = np.tile([0.5, 0.3, 0.2], (K, 1))
    full = by_scipy(
        lambda t: (simulators.drift(simulators.le_matrix(alpha(t), beta(t), K), P, blocks), 0.0), start, TIMES
    )
    found = simulate_ode(start, (alpha, beta), model, TIMES, priors=[5.0, 3.0, 2.0], substeps=40)
    assert relative(found, full) < 1e-8
    with pytest.raises(ValueError, match="balanced priors"):
        simulate_ode(start, (alpha, beta), model, TIMES, priors=[5.0, 3.0, 2.0], method="modes")


def test_general_blocks_equal_integration():
    K, p = 3, 2
    rng = np.random.default_rng(2)
    blocks = rng.standard_normal((K, K, p, p))
    start = rng.standard_normal((K, p))
    P = np.full((K, K), 1 / K)
    full = by_scipy(lambda t: (simulators.drift(simulators.le_matrix(0.1, 0.05, K), P, blocks), 0.0), start, TIMES)
    assert relative(simulate_ode(start, (0.1, 0.05), GeneralModel(torch.tensor(blocks)), TIMES), full) < 1e-9


@pytest.mark.parametrize("name", ["I", "L", "direction"])
def test_affine_term_equals_integration(name):
    K = 3
    model, blocks, start = problem(name, K)
    rng = np.random.default_rng(3)
    constant, slope = rng.standard_normal((2, *start.shape))
    P = np.full((K, K), 1 / K)
    M = simulators.drift(simulators.le_matrix(0.2, -0.1, K), P, blocks)
    full = by_scipy(lambda t: (M, constant.ravel()), start, TIMES)
    assert relative(simulate_ode(start, (0.2, -0.1), model, TIMES, affine=constant), full) < 1e-10

    def moving(t):
        return constant + slope * np.sin(t)

    full = by_scipy(lambda t: (M, moving(t).ravel()), start, TIMES)
    assert relative(simulate_ode(start, (0.2, -0.1), model, TIMES, affine=moving, substeps=80), full) < 1e-8


def test_arrays_are_linear_between_times():
    _, _, start = problem("I", 3)
    a, b = alpha(TIMES), beta(TIMES)
    arrays = simulate_ode(start, (a, b), IModel(), TIMES)
    calls = simulate_ode(start, (lambda t: np.interp(t, TIMES, a), lambda t: np.interp(t, TIMES, b)), IModel(), TIMES)
    stacked = np.stack([simulators.le_matrix(x, y, 3) for x, y in zip(a, b, strict=True)])
    matrices = simulate_ode(start, stacked, IModel(), TIMES)
    assert relative(arrays, calls.numpy()) < 1e-12
    assert relative(arrays, matrices.numpy()) < 1e-12  # the I-model's drifts commute under balanced sampling


def test_integrals_give_the_modes_whatever_the_path_between():
    _, _, start = problem("I", 3)
    A, B = 0.1 * (TIMES - 10) ** 1.3, -0.05 * (TIMES - 10)
    found = simulate_ode(start, LEIntegrals(TIMES, A, B), IModel(), TIMES[::2]).numpy()
    centre = start.mean(0)
    common, difference = np.exp((A + 2 * B) / 3)[::2, None, None], np.exp((A - B) / 3)[::2, None, None]
    assert relative(found, common * centre + difference * (start - centre)) < 1e-12


@pytest.mark.parametrize("name", ["I", "L"])
def test_estimate_and_simulation_are_inverse_on_noise_free_runs(name):
    model, _, start = problem(name, 3)
    times = np.arange(100.0, 180.0)
    truth = simulate_ode(start, (lambda t: 2 / t**0.5, lambda t: -1 / t**0.5), model, times)
    found = estimate_coefficients(truth, times, model=model, window=11)
    assert relative(simulate_ode(start, found, model, times), truth.numpy()) < 1e-4
    with pytest.raises(ValueError, match="estimated for"):
        simulate_ode(start[:, :3], found, DirectionModel(torch.eye(3) - 1 / 3), times)


def test_le_matrix_of_a_run_simulates_it():
    rng = np.random.default_rng(5)
    E = 0.02 * rng.standard_normal((3, 3))
    times = np.arange(40.0)
    start = rng.standard_normal((3, 5))
    truth = simulate_ode(start, E, IModel(), times)
    found = estimate_le_matrix(truth, times, model=IModel(), window=19)
    assert relative(simulate_ode(start, found, IModel(), times), truth.numpy()) < 1e-7


BAD_ODE = [
    ({"times": [0.0, 0.0]}, "strictly increasing"),
    ({"times": [0.0, np.nan]}, "finite"),
    ({"times": 3.0}, r"`times` to be of shape \(T,\)"),
    ({"x0": torch.full((2, 3), torch.nan)}, "`x0` to be finite"),
    ({"x0": torch.ones(3)}, r"`x0` to be of shape \(K, p\)"),
    ({"x0": torch.ones(1, 3)}, "K ≥ 2"),
    ({"model": LModel(), "x0": torch.ones(3, 2)}, "p ≥ 3"),
    ({"method": "euler"}, "`method` to be one of"),
    ({"coefficients": (0.1, np.ones(5))}, r"`beta` to be a number, of shape \(3,\)"),
    ({"coefficients": (np.nan, 0.1)}, "`alpha` to be finite"),
    ({"coefficients": (lambda t: t * np.nan, 0.1)}, "`alpha` to be finite.* at t = "),
    (
        {"coefficients": np.ones((4, 4))},
        r"`coefficients` to be of shape \(2, 2\), of shape \(3, 2, 2\) or a function of time",
    ),
    ({"coefficients": LEIntegrals([0, 1], [0, 1], [0, 1])}, "`times` to be within 0 … 1"),
    ({"priors": np.ones((5, 2))}, "`priors` to be of one row for each of the 3 times"),
    ({"affine": np.ones((2, 2))}, "`affine`"),
    ({"substeps": 0}, "`substeps`"),
]


@pytest.mark.parametrize(("change", "message"), BAD_ODE)
def test_wrong_arguments_are_named(change, message):
    good = {"x0": torch.ones(2, 3), "coefficients": (0.1, 0.0), "model": IModel(), "times": [0.0, 1.0, 2.0]}
    with pytest.raises(ValueError, match=message):
        simulate_ode(**(good | change))
