"""The LE-SDE against the independent simulator, closed forms and scipy.

Random starts, fixed seeds. Statistical tests: KS at level 1e-4 each, moments within 5 standard errors.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import simulators
import torch
from problems import TIMES, alpha, beta, problem, relative
from scipy import stats
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from le_callback import IModel, LModel
from le_callback.simulation import simulate_ode, simulate_sde
from le_callback.simulation.diffusion import as_noise_rate
from le_callback.simulation.linear import flows, space_of
from le_callback.simulation.ode import coupled_drift
from le_callback.simulation.sde import Equation, euler_states
from le_callback.simulation.strengths import as_sampling, as_strengths


def test_type_and_device_follow_the_start():
    x = torch.ones(2, 3, dtype=torch.float32)
    assert simulate_ode(x, (0.1, 0.0), IModel(), [0.0]).dtype == torch.float32
    assert simulate_ode(x.bfloat16(), (0.1, 0.0), IModel(), [0.0, 1.0]).dtype == torch.bfloat16
    g = torch.Generator().manual_seed(0)
    found = simulate_sde(x.half(), (0.1, 0.0), IModel(), [0.0, 1.0], noise=0.1, samples=3, generator=g)
    assert found.dtype == torch.float16
    assert found.shape == (3, 2, 2, 3)


BAD_SDE = [
    ({"noise": np.ones(3)}, ValueError, "`noise` to be a number"),
    ({"noise": -1.0}, ValueError, "`noise` to be a σ that is not negative"),
    ({"noise": np.nan}, ValueError, "`noise` to be finite"),
    ({"noise": -np.stack([np.eye(3)] * 2)}, ValueError, "negative eigenvalues"),
    ({"samples": 0}, ValueError, "`samples`"),
    ({"x0": torch.ones(2, 4, 3), "samples": 5}, ValueError, "`samples` to be 4"),
    ({"generator": None}, TypeError, "`generator`"),
    ({"method": "milstein"}, ValueError, "exact, euler"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD_SDE)
def test_wrong_arguments_of_the_sde_are_named(change, error, message):
    good = {
        "x0": torch.ones(2, 3),
        "coefficients": (0.1, 0.0),
        "model": IModel(),
        "times": [0.0, 1.0],
        "noise": 0.1,
        "generator": torch.Generator(),
    }
    with pytest.raises(error, match=message):
        simulate_sde(**(good | change))


def covariance_by_scipy(rate, S, times, size):
    """C′ = MC + CMᵀ + S from 0, to 1e-11."""

    def slope(t, c):
        C, M = c.reshape(size, size), rate(t)
        return (M @ C + C @ M.T + S(t)).ravel()

    found = solve_ivp(
        slope, (times[0], times[-1]), np.zeros(size * size), "DOP853", [times[-1]], rtol=1e-11, atol=1e-13
    )
    return found.y[:, -1].reshape(size, size)


def per_class(rng, K, p):
    root = rng.standard_normal((K, p, p)) / np.sqrt(p)
    return root @ root.transpose(0, 2, 1)


def block_diagonal(blocks):
    K, p, _ = blocks.shape
    out = np.zeros((K * p, K * p))
    for k in range(K):
        out[k * p : (k + 1) * p, k * p : (k + 1) * p] = blocks[k]
    return out


def sde_cases():
    rng = np.random.default_rng(8)
    for name in ("I", "L", "direction"):
        model, blocks, start = problem(name, 3)
        p = start.shape[1]
        sigma = np.array([0.3, 0.5, 0.8])
        yield pytest.param(model, blocks, start, sigma, sigma[:, None, None] ** 2 * np.eye(p), id=f"{name}-isotropic")
        rates = per_class(rng, 3, p)
        yield pytest.param(model, blocks, start, rates, rates, id=f"{name}-covariance")


@pytest.mark.parametrize("method", ["exact", "euler"])
@pytest.mark.parametrize(("model", "blocks", "start", "noise", "rates"), list(sde_cases()))
def test_law_of_the_sde(model, blocks, start, noise, rates, method):
    """One long step, exact; Euler with 100 parts, whose bias is far below the Monte-Carlo error."""
    K, p = start.shape
    S, P = 4000, np.full((3, 3), 1 / 3)
    M = simulators.drift(simulators.le_matrix(0.6, -0.3, K), P, blocks)
    times = np.array([0.0, 2.0])
    C = covariance_by_scipy(lambda t: M, lambda t: block_diagonal(rates), times, K * p)
    mean = expm(2 * M) @ start.ravel()
    g = torch.Generator().manual_seed(1)
    parts = 1 if method == "exact" else 100
    found = (
        simulate_sde(
            start, (0.6, -0.3), model, times, noise=noise, samples=S, generator=g, method=method, substeps=parts
        )[:, -1]
        .flatten(1)
        .numpy()
    )
    white = np.linalg.solve(np.linalg.cholesky(C), (found - mean).T)
    assert stats.kstest(white.ravel(), "norm").pvalue > 1e-4  # one test in all: level 1e-4
    sampled = np.cov(found.T)
    error = np.sqrt((C**2 + np.outer(np.diag(C), np.diag(C))) / S)  # of a Gaussian's sample covariance
    assert np.abs((sampled - C) / error).max() < 5
    assert np.abs((found.mean(0) - mean) / np.sqrt(np.diag(C) / S)).max() < 5


def test_marginals_are_gaussian_with_the_closed_form_of_the_modes():
    """I-model: the common mode's variance is σ²/K (e^{2ut} − 1)/2u, the difference modes' σ²(e^{2vt} − 1)/2v."""
    K, S, T, a, b, sigma = 4, 20000, 3.0, 0.8, -0.2, 0.7
    g = torch.Generator().manual_seed(3)
    x = simulate_sde(
        torch.zeros(K, 1, dtype=torch.float64), (a, b), IModel(), [0.0, 1.0, T], noise=sigma, samples=S, generator=g
    )[:, -1, :, 0].numpy()
    u, v = (a + (K - 1) * b) / K, (a - b) / K
    common = x.mean(1) / np.sqrt(sigma**2 / K * np.expm1(2 * u * T) / (2 * u))
    difference = (x[:, 0] - x[:, 1]) / np.sqrt(2 * sigma**2 * np.expm1(2 * v * T) / (2 * v))
    for sample in (common, difference):
        assert stats.kstest(sample, "norm").pvalue > 1e-4


def test_covariance_of_a_time_varying_sde_is_of_fourth_order():
    model, blocks, _ = problem("direction", 3)
    p = blocks.shape[-1]
    times = np.array([0.0, 4.0])

    def a(t):
        return 1.5 * np.cos(t)

    def rate(t):
        return (1 + 0.5 * np.sin(t)) ** 2

    space = space_of(model, 3, p, full=True)
    drift = coupled_drift(space, as_strengths((a, -0.3), times, 3, model), as_sampling([5.0, 3, 2], times, 3)[0])
    P = np.tile([0.5, 0.3, 0.2], (3, 1))
    exact = covariance_by_scipy(
        lambda t: simulators.drift(simulators.le_matrix(a(t), -0.3, 3), P, blocks),
        lambda t: rate(t) * np.eye(3 * p),
        times,
        3 * p,
    )
    errors = []
    for n in (8, 16, 32):
        steps = flows(drift, np.linspace(*times, n + 1), None, lambda t: rate(t)[:, None, None] * np.eye(3 * p))
        C = np.zeros_like(exact)
        for flow, Q in zip(steps.flow, steps.covariance, strict=True):
            C = flow @ C @ flow.T + Q
        errors.append(np.abs(C - exact).max() / np.abs(exact).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.allclose(orders, 4, atol=0.3)


@pytest.mark.parametrize("name", ["I", "L"])
def test_euler_maruyama_is_of_strong_order_one(name):
    """The same Brownian paths at six step sizes, against one 16 times finer than the finest."""
    model, _, start = problem(name, 3)
    S, fine = 400, 2**11
    x0 = torch.tensor(start).expand(S, *start.shape)
    space, rate = space_of(model, *start.shape), as_noise_rate(lambda t: 0.5 + 0.3 * t, 0.0, *start.shape)
    g = torch.Generator().manual_seed(0)
    dB = torch.randn(S, fine, *start.shape, generator=g, dtype=torch.float64) * (1 / fine) ** 0.5

    def end(n):
        white = iter(dB.reshape(S, n, fine // n, *start.shape).sum(2).mul(n**0.5).unbind(1))  # of unit variance
        grid = np.linspace(0, 1, n + 1)
        strengths = as_strengths((lambda t: 1.5 + t, lambda t: -0.5 * t), grid, 3, model)
        drift = coupled_drift(space, strengths, as_sampling(None, grid, 3)[0])
        *_, last = euler_states(Equation(space, drift, rate, None, grid), x0, lambda: next(white))
        return last

    reference = end(fine)
    sizes = [4, 8, 16, 32, 64, 128]
    errors = [float((end(n) - reference).square().sum((1, 2)).sqrt().mean()) for n in sizes]
    order = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert abs(order - 1) < 0.15


def test_paths_have_the_lag_covariance_of_a_markov_process():
    """Cov(X_t, X_s) = Φ(t, s) Cov(X_s): the transitions, not the marginals alone."""
    start, S = np.zeros((2, 1)), 40000
    g = torch.Generator().manual_seed(5)
    x = simulate_sde(start, (0.5, 0.2), IModel(), [0.0, 1.0, 2.5], noise=1.0, samples=S, generator=g)[..., 0].numpy()
    flow = expm(1.5 * np.array([[0.25, 0.1], [0.1, 0.25]]))
    sampled = np.cov(x[:, 2].T, x[:, 1].T)[:2, 2:]
    expected = flow @ np.cov(x[:, 1].T)
    assert np.abs(sampled - expected).max() < 5 * np.sqrt(2 / S) * np.abs(expected).max() * 2


def test_models_go_by_their_names():
    x0, g = torch.ones(3, 3), torch.Generator
    for name, model in (("I", IModel()), ("L", LModel())):
        named, given = (simulate_ode(x0, (0.3, -0.1), m, TIMES) for m in (name, model))
        assert torch.equal(named, given)
        named, given = (
            simulate_sde(x0, (0.3, -0.1), m, TIMES, noise=0.1, generator=g().manual_seed(0)) for m in (name, model)
        )
        assert torch.equal(named, given)
    for call in (simulate_ode, partial(simulate_sde, noise=0.1, generator=g())):
        with pytest.raises(TypeError, match="`model`"):
            call(x0, (0.3, -0.1), "linear", TIMES)


def test_seed_decides_and_the_global_state_is_left_alone():
    state = torch.get_rng_state()
    call = SimpleNamespace(x0=torch.ones(2, 3), coefficients=(0.1, 0.0), model=IModel(), times=[0.0, 1.0])
    first, second, third = (
        simulate_sde(**vars(call), noise=0.1, samples=4, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert torch.equal(torch.get_rng_state(), state)


def test_each_path_starts_where_it_is_told_and_without_noise_follows_the_ode():
    model, _, _ = problem("L", 3)
    starts = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for method, bound in (("exact", 1e-10), ("euler", 1e-2)):
        found = simulate_sde(
            starts,
            (alpha, beta),
            model,
            TIMES,
            noise=0.0,
            generator=torch.Generator(),
            method=method,
            substeps=400,
            affine=torch.ones(3, 3),
        )
        for s in range(5):
            ode = simulate_ode(starts[:, s], (alpha, beta), model, TIMES, affine=torch.ones(3, 3), substeps=400)
            assert relative(found[s], ode.numpy()) < bound
